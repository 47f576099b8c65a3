"""Files that clients bring, read through the process that decodes: good, odd and hostile ones."""

import io
import os
import signal
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.artifacts.store import ArtifactStore
from callsheet.media.answers import facts_of, time_of
from callsheet.media.decoder import Refused
from callsheet.media.fetching import ProjectFiles
from callsheet.media.limits import MediaLimits
from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.tasks.v1.media_pb2 import VIDEO_FORMAT_GIF, VIDEO_FORMAT_WEBM
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext
from tests.support.media_files import (
    BLUE,
    RED,
    colour_of,
    is_near,
    pitch_of,
    plain,
    png,
    sound_file,
    tone,
    video_file,
)
from tests.support.media_reading import facts, pictures, refusal_of


def test_a_video_says_what_it_is(reader: MediaReader, context: HandlerContext, film: bytes) -> None:
    told = reader.facts(context.upload(film, suffix="mp4"))
    assert told.kind == "MP4"
    assert told.duration == timedelta(seconds=1)
    assert told.video is not None
    assert told.sound is not None
    assert (told.video.width, told.video.height, told.video.frame_rate) == (32, 24, 10)
    assert (told.sound.channels, told.sound.sample_rate) == (2, 48_000)
    assert (told.video.codec, told.sound.codec) == ("h264", "aac")


def test_every_stream_of_a_file_is_told(
    reader: MediaReader, context: HandlerContext, film: bytes
) -> None:
    reference = context.upload(film, suffix="mp4")
    told = [(stream.kind, stream.codec) for stream in reader.facts(reference).streams]
    assert told == [("video", "h264"), ("audio", "aac")]
    assert reader.size_bytes(reference) == len(film)


def test_one_picture_is_the_one_that_is_shown_at_that_moment(
    reader: MediaReader, context: HandlerContext, film: bytes
) -> None:
    """And behind the end the last one."""
    reference = context.upload(film, suffix="mp4")
    for at, since, colour in (
        (0, 0, RED),
        (0.49, 0.4, RED),
        (0.5, 0.5, BLUE),
        (0.91, 0.9, BLUE),
        (60, 0.9, BLUE),
    ):
        time, pixels = reader.picture(reference, at=timedelta(seconds=at), size=(16, 12))
        assert time.total_seconds() == pytest.approx(since), at
        assert pixels.shape == (12, 16, 3)
        assert is_near(colour_of(pixels), colour), at


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), "soon", None])
def test_a_time_that_is_none_is_not_believed(time: object) -> None:
    with pytest.raises(Refused):
        time_of({"time": time})


def test_streams_that_are_none_are_not_believed() -> None:
    told = {"kind": "MP4", "duration": 1.0, "video": None, "sound": None}
    assert facts_of({**told, "streams": []}).streams == ()
    for streams in (None, "h264", [{"kind": "video"}], [["video", "h264"]]):
        with pytest.raises(Refused):
            facts_of({**told, "streams": streams})


def test_what_a_file_is_called_does_not_count(
    reader: MediaReader, context: HandlerContext, film: bytes
) -> None:
    assert reader.facts(context.upload(film, suffix="txt")).kind == "MP4"
    assert reader.image(context.upload(png(plain(RED)), suffix="mp4")).shape == (24, 32, 3)


def test_several_files_are_read_side_by_side_and_one_may_be_left_early(
    reader: MediaReader, context: HandlerContext, film: bytes, folder: Path
) -> None:
    first = context.upload(film, suffix="mp4")
    second = context.upload(sound_file(tone(1000, seconds=3), folder), suffix="wav")
    start = timedelta(0)
    heard = reader.sound(second, start=start, end=None, rate=16_000, channels=2)
    again = reader.sound(second, start=timedelta(seconds=2), end=None, rate=16_000, channels=1)
    one, seen, other = next(heard), pictures(reader, first), next(again)
    assert len(seen) == 10
    assert (one.shape, other.shape) == ((2, 2**15), (1, 16_000))
    for waveform in (one, other):
        assert pitch_of(waveform, rate=16_000) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("format", [VIDEO_FORMAT_WEBM, VIDEO_FORMAT_GIF])
def test_a_part_of_any_video_begins_where_it_should(
    reader: MediaReader,
    context: HandlerContext,
    folder: Path,
    format: int,  # noqa: A002 - the contract's word
) -> None:
    """Also far behind its beginning, where it is jumped to."""
    content = video_file(
        [plain(RED)] * 25 + [plain(BLUE)] * 5,
        folder,
        format=VIDEO_FORMAT_GIF if format == VIDEO_FORMAT_GIF else VIDEO_FORMAT_WEBM,
    )
    reference = context.upload(content, suffix="webm")
    found = reader.pictures(
        reference,
        start=timedelta(seconds=2.3),
        end=timedelta(seconds=2.7),
        rate=Fraction(10),
        size=(32, 24),
        fit="contain",
    )
    colours = [colour_of(picture) for picture in found]
    assert [is_near(colour, RED) for colour in colours] == [True, True, False, False]


def test_an_image_is_turned_as_its_camera_says(
    reader: MediaReader, context: HandlerContext
) -> None:
    tall = np.concatenate([plain(RED, width=20, height=4), plain(BLUE, width=20, height=4)])
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(tall).save(content, "JPEG", exif=exif, quality=95, subsampling=0)
    found = reader.image(context.upload(content.getvalue(), suffix="jpg"))
    assert found.shape == (20, 8, 3)
    assert is_near(colour_of(found[:, 5:]), RED)


def test_images_of_every_mode_have_three_colours_of_eight_bits(
    reader: MediaReader, context: HandlerContext
) -> None:
    grey = np.linspace(0, 65535, 64 * 4).reshape(4, 64).astype(np.uint16)
    palette = Image.fromarray(plain(RED)).quantize(4)
    see_through = np.dstack([plain(RED), np.full((24, 32), 128, np.uint8)])
    deep = reader.image(context.upload(png(grey), suffix="png"))  # pyright: ignore[reportArgumentType]  # Pillow takes 16 bits, too
    assert (deep[0, 0, 0], deep[-1, -1, 0]) == (0, 255)
    content = io.BytesIO()
    palette.save(content, "GIF")
    found = reader.image(context.upload(content.getvalue(), suffix="gif"))
    assert is_near(colour_of(found), RED)
    transparent = reader.image(context.upload(png(see_through), suffix="png"), transparent=True)
    assert transparent[0, 0].tolist() == [*RED, 128]


def test_files_larger_than_the_limit_together_are_refused(
    context: HandlerContext, film: bytes, tmp_path: Path
) -> None:
    limits = MediaLimits(largest_bytes=len(film) + 10)
    files = ProjectFiles(context.store, context.project)
    first, second = (context.upload(film + bytes(n), suffix="mp4") for n in (0, 1))
    with MediaReader(
        files.fetch, limits=limits, check=lambda: None, folder=tmp_path / "scratch"
    ) as reader:
        reader.facts(first)
        with pytest.raises(HandlerFailure, match="has more than the 10 bytes"):
            reader.facts(second)


def test_a_step_that_takes_too_long_ends_the_process(context: HandlerContext, film: bytes) -> None:
    slow = HandlerContext(context.folder, limits=MediaLimits(step_time=timedelta(milliseconds=1)))
    with slow.open_media() as reader:
        message = refusal_of(facts, reader, slow.upload(film, suffix="mp4"))
    assert "takes longer than 0.001 seconds" in message


def test_a_decoder_that_dies_is_told_of(context: HandlerContext, film: bytes) -> None:
    reference = context.upload(film, suffix="mp4")
    with context.open_media() as reader:
        reader.facts(reference)
        os.kill(_pid(reader), signal.SIGSEGV)
        assert "makes its decoder fail" in refusal_of(facts, reader, reference)


def test_a_stop_is_heard_while_the_decoder_works(
    context: HandlerContext, film: bytes, tmp_path: Path
) -> None:
    # Given a decoder that hangs
    reference = context.upload(film, suffix="mp4")
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if len(checks) > 5:
            raise TaskStopped

    files = ProjectFiles(context.store, context.project)
    with MediaReader(
        files.fetch, limits=MediaLimits(), check=check, folder=tmp_path / "scratch"
    ) as reader:
        pid = _pid(reader)
        os.kill(pid, signal.SIGSTOP)
        # When the task is stopped, then the reader lets go, and the decoder is gone
        with pytest.raises(TaskStopped):
            reader.facts(reference)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_decoder_is_told_no_secret(
    context: HandlerContext, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@example.com")
    with context.open_media() as reader:
        environment = Path(f"/proc/{_pid(reader)}/environ").read_bytes()
    assert b"REDIS_URL" not in environment
    assert b"secret" not in environment


def _pid(reader: MediaReader) -> int:
    decoder = reader._decoder  # pyright: ignore[reportPrivateUsage]  # a test of a fault
    assert decoder is not None
    return decoder.pid


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (f"projects/film/uploads/{'0' * 32}.mp4", "is not there, or not any more"),
        (f"projects/other/uploads/{'0' * 32}.mp4", "is no file of the task's project"),
        ("projects/film/uploads/../../other/uploads/x.mp4", "is no file of the task's project"),
        ("https://example.com/film.mp4", "is no file of the task's project"),
        (f"projects/film/uploads/{'z' * 32}.mp4", "is no file of the task's project"),
        ("projects/film/callsheet-owner.json", "is no file of the task's project"),
    ],
)
def test_what_is_not_the_projects_is_not_fetched(tmp_path: Path, uri: str, reason: str) -> None:
    files = ProjectFiles(ArtifactStore(tmp_path.as_uri()), "film")
    with pytest.raises(HandlerFailure, match=reason) as refused:
        files.fetch(uri, io.BytesIO(), 10)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
