"""Which picture is shown when, and how one of another shape is made to fit."""

import io
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.media.muxing import created, encode
from callsheet.media.opening import Bounds, Unreadable, media_facts
from callsheet.media.picture_decoding import (
    Fit,
    Selection,
    Timed,
    framed,
    scaled_size,
    selected,
    video_pixels,
)
from tests.support.media_files import BLUE, RED, colour_of, is_near, plain, video_file

BOUNDS = Bounds(10**6, timedelta(hours=1))


def selection(*, start: float = 0, end: float | None = None, rate: int = 10) -> Selection:
    return Selection(start, end, Fraction(rate), 32, 24, Fit.CONTAIN)


def frames(times: list[float], *, length: float = 0.1) -> list[Timed]:
    """Return frames that are told apart by their widths."""
    return [
        Timed(time, length, av.VideoFrame(2 * number + 2, 2)) for number, time in enumerate(times)
    ]


def shown(timed: list[Timed], wanted: Selection) -> list[int | None]:
    """Return the number of the frame at each tick; None: the one before."""
    return [None if frame is None else frame.width // 2 - 1 for frame in selected(timed, wanted)]


def test_at_its_own_rate_every_frame_is_shown_once() -> None:
    timed = frames([number / 10 for number in range(6)])
    assert shown(timed, selection()) == [0, 1, 2, 3, 4, 5]


def test_times_that_were_rounded_by_a_container_lose_no_frame() -> None:
    timed = frames([0.0, 0.033, 0.067, 0.1, 0.133, 0.167, 0.2], length=0.033)
    assert shown(timed, selection(rate=30)) == [0, 1, 2, 3, 4, 5, 6]


def test_a_gap_is_filled_by_the_frame_before_it() -> None:
    assert shown(frames([0.0, 0.1, 0.5]), selection()) == [0, 1, None, None, None, 2]


def test_a_part_begins_with_the_frame_shown_then_and_ends_where_it_should() -> None:
    timed = frames([0.0, 0.5, 1.0, 1.5, 2.0], length=0.5)
    part = selection(start=0.7, end=1.2)
    assert shown(timed, part) == [1, None, None, 2, None]


def test_a_part_ends_with_the_video() -> None:
    assert shown(frames([0.0, 0.1]), selection(start=0.1, end=9)) == [1]


def test_a_part_behind_the_end_is_refused() -> None:
    with pytest.raises(Unreadable, match=r"ends before 0\.5 seconds"):
        shown(frames([0.0, 0.1]), selection(start=0.5))


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=20).map(sorted),
    st.sampled_from([1, 7, 24, 60]),
)
def test_a_selection_is_as_long_as_what_is_selected(times: list[float], rate: int) -> None:
    found = shown(frames(times), selection(rate=rate))
    assert found[0] is not None
    numbers = [number for number in found if number is not None]
    assert numbers == sorted(set(numbers))
    assert abs(len(found) - (times[-1] + 0.1) * rate) <= 1.5  # the last one is seen, if late


@pytest.mark.parametrize(
    ("fit", "size"), [(Fit.CONTAIN, (100, 50)), (Fit.COVER, (200, 100)), (Fit.STRETCH, (100, 100))]
)
def test_a_wide_picture_in_a_square(fit: Fit, size: tuple[int, int]) -> None:
    assert scaled_size((400, 200), (100, 100), fit=fit) == size


@given(
    *(st.integers(1, 40) for _ in range(4)),
)
def test_a_frame_has_the_middle_of_the_picture_in_its_middle(
    width: int, height: int, wide: int, high: int
) -> None:
    picture = np.full((height, width, 3), 9, np.uint8)
    found = framed(picture, width=wide, height=high)
    assert found.shape == (high, wide, 3)
    assert (found == 9).sum() == 3 * min(width, wide) * min(height, high)
    assert found[(high - 1) // 2, (wide - 1) // 2, 0] == 9


def test_pixels_that_are_not_square_and_turned_pictures_are_shown_as_they_are_meant(
    tmp_path: Path,
) -> None:
    # Given a film whose pixels are twice as wide as high, and one that is to be turned, too
    wide = _with_wide_pixels(tmp_path / "wide.mp4")
    turned = _turned_by_a_quarter(wide)
    # Then it is shown with its sides as they are meant
    for film, size in ((wide, (64, 32)), (turned, (32, 64))):
        told = media_facts(io.BytesIO(film), BOUNDS).video
        assert told is not None
        assert (told.width, told.height) == size
    wanted = Selection(0, None, Fraction(10), 32, 64, Fit.CONTAIN)
    first = next(video_pixels(io.BytesIO(turned), BOUNDS, wanted))
    assert first is not None
    ends = (colour_of(first[:20]), colour_of(first[44:]))
    assert is_near(ends[0], RED) is not is_near(ends[0], BLUE)
    assert is_near(ends[1], RED) is not is_near(ends[1], BLUE)
    assert is_near(ends[0], RED) is is_near(ends[1], BLUE)


def _with_wide_pixels(path: Path) -> bytes:
    halves = [plain(colour, width=16, height=32) for colour in (RED, BLUE)]
    container = created(path, muxer="mp4", options={})
    stream = cast("av.VideoStream", container.add_stream("libx264", rate=10))
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    stream.codec_context.sample_aspect_ratio = Fraction(2)
    stream.codec_context.thread_count = 1
    for number in range(3):
        frame = av.VideoFrame.from_ndarray(np.concatenate(halves, 1), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        encode(container, stream, frame)
    encode(container, stream, None)
    container.close()
    return path.read_bytes()


def _turned_by_a_quarter(film: bytes) -> bytes:
    """Return the film with the matrix of its track turned."""
    place = film.index(b"tkhd") + 4 + 40
    one = 0x00010000
    matrix = [0, one, 0, -one, 0, 0, 0, 0, 0x40000000]
    turned = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    return film[:place] + turned + film[place + len(turned) :]


@pytest.mark.parametrize("height", [24, 720])
def test_colours_are_kept_in_small_and_in_high_definition(tmp_path: Path, height: int) -> None:
    colour = (30, 180, 40)
    film = video_file([plain(colour, width=64, height=height)] * 2, tmp_path)
    wanted = Selection(0, None, Fraction(10), 64, height, Fit.CONTAIN)
    first = next(video_pixels(io.BytesIO(film), BOUNDS, wanted))
    assert first is not None
    assert is_near(colour_of(first), colour, within=3)


def test_a_picture_that_plays_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    film = video_file([plain(RED)] * 20, tmp_path)
    short = Bounds(10**6, timedelta(seconds=1))
    with pytest.raises(Unreadable, match="plays longer than 1 seconds"):
        list(video_pixels(io.BytesIO(film), short, selection()))


def test_a_video_with_more_pixels_than_allowed_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    film = video_file([plain(RED)] * 2, tmp_path)
    with pytest.raises(Unreadable, match="has 32 x 24 pixels; at most 700"):
        next(video_pixels(io.BytesIO(film), Bounds(700, timedelta(hours=1)), selection()))
