"""The task type edit_video: what comes out is decoded, looked at and listened to."""

import io
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import edit_video
from callsheet.handlers.edit_video import FITS
from callsheet.media.limits import MediaLimits
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_POSTER,
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
)
from callsheet.tasks.v1.edit_video_pb2 import (
    CLIP_SOUND_DROP,
    VIDEO_FIT_CONTAIN,
    VIDEO_FIT_COVER,
    VIDEO_FIT_STRETCH,
    EditVideoInput,
    Soundtrack,
    VideoClip,
    VideoFit,
    VideoOverlay,
)
from callsheet.tasks.v1.media_pb2 import (
    VIDEO_FORMAT_GIF,
    VIDEO_FORMAT_MP4,
    VIDEO_FORMAT_WEBM,
    MediaReference,
    VideoFormat,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT, PROGRESS_PHASE_ENCODING
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    Seen,
    colour_of,
    is_near,
    level_of,
    pitch_of,
    plain,
    png,
    seconds,
    seen,
    sound_file,
    tone,
    video_file,
)

RATE = 48_000


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    context = HandlerContext(tmp_path)
    is_context(context)
    return context


@pytest.fixture
def red(context: HandlerContext, tmp_path: Path) -> MediaReference:
    """A second of red with 440 hertz, 10 pictures a second."""
    content = video_file([plain(RED)] * 10, tmp_path, waveform=tone(440))
    return context.upload(content, suffix="mp4")


@pytest.fixture
def green_to_blue(context: HandlerContext, tmp_path: Path) -> MediaReference:
    """Half a second of green and half a second of blue, silent."""
    return context.upload(
        video_file([plain(GREEN)] * 5 + [plain(BLUE)] * 5, tmp_path), suffix="mp4"
    )


def made(context: HandlerContext, input: EditVideoInput) -> Seen:
    return seen(context.content(edit_video.run(input, context).video))


def colours(film: Seen) -> list[str]:
    """Return the colour of each picture, by name."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE, "black": (0, 0, 0)}
    found: list[str] = []
    for picture in film.pictures:
        colour = colour_of(picture)
        found.append(next((name for name, it in names.items() if is_near(colour, it)), str(colour)))
    return found


def test_clips_are_cut_and_joined_and_their_sound_stays_with_them(
    context: HandlerContext, red: MediaReference, green_to_blue: MediaReference
) -> None:
    output = edit_video.run(
        EditVideoInput(
            clips=[
                VideoClip(video=green_to_blue, start=seconds(0.3), end=seconds(0.7)),
                VideoClip(video=red, end=seconds(0.5)),
            ]
        ),
        context,
    )
    # Then the pictures come in their order, and 440 hertz are heard with the red ones alone
    film = seen(context.content(output.video))
    assert colours(film) == ["green"] * 2 + ["blue"] * 2 + ["red"] * 5
    assert film.times == pytest.approx([number / 10 for number in range(9)], abs=0.001)
    cut = round(0.4 * RATE)
    assert np.abs(film.waveform[:, : cut - 2000]).max() < 0.02
    rest = film.waveform[:, cut + 2000 : round(0.9 * RATE)]
    assert pitch_of(rest, rate=RATE) == pytest.approx(440, abs=3)
    # And the artifact says what is true of its bytes, which a browser can play as they come
    video = output.video
    assert (video.width, video.height, video.frames, video.frame_rate) == (32, 24, 9, 10)
    assert (video.video_codec, video.audio_codec) == ("h264", "aac")
    assert (video.channels, video.sample_rate, video.media_type) == (2, RATE, "video/mp4")
    assert video.duration.ToTimedelta() == pytest.approx(
        timedelta(seconds=0.9), abs=timedelta(seconds=0.03)
    )
    assert film.has_index_first


def test_a_film_has_a_poster_a_thumbnail_and_its_provenance(
    context: HandlerContext, green_to_blue: MediaReference
) -> None:
    output = edit_video.run(EditVideoInput(clips=[VideoClip(video=green_to_blue)]), context)
    assert output.poster.role == ARTIFACT_ROLE_POSTER
    assert output.thumbnail.role == ARTIFACT_ROLE_THUMBNAIL
    for artifact in (output.poster, output.thumbnail):
        with Image.open(io.BytesIO(context.content(artifact))) as image:
            assert (image.format, image.size) == ("WEBP", (32, 24))
            assert is_near(colour_of(np.asarray(image.convert("RGB"))), GREEN)
    # And the JSON beside it names the task, what it was made of, and the very bytes it is about
    assert output.provenance.role == ARTIFACT_ROLE_PROVENANCE
    manifest = json.loads(context.content(output.provenance))
    assert manifest["ingredients"][0]["instance_id"] == green_to_blue.uri
    told = {each["label"]: each["data"] for each in manifest["assertions"]}
    assert told["c2pa.hash.data"]["hash"] == output.video.sha256
    assert told["callsheet.task.v1"]["task"] == context.task_id
    assert told["callsheet.task.v1"]["task_type"] == "edit_video"
    assert (
        json.loads(seen(context.content(output.video)).metadata["comment"])
        == (told["callsheet.task.v1"])
    )


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (20.0, ["green"] * 10 + ["blue"] * 10),
        (5.0, ["green"] * 2 + ["blue"] * 3),
    ],
)
def test_another_rate_shows_pictures_twice_or_leaves_some_out(
    context: HandlerContext, green_to_blue: MediaReference, rate: float, wanted: list[str]
) -> None:
    input = EditVideoInput(clips=[VideoClip(video=green_to_blue)], frame_rate=rate)
    film = made(context, input)
    assert len(film.pictures) == len(wanted)
    assert abs(colours(film).count("green") - wanted.count("green")) <= 1
    assert film.times[-1] == pytest.approx(1 - 1 / rate, abs=0.01)


@pytest.mark.parametrize(
    ("fit", "corner", "middle"),
    [
        (VIDEO_FIT_CONTAIN, (0, 0, 0), RED),
        (VIDEO_FIT_COVER, RED, RED),
        (VIDEO_FIT_STRETCH, WHITE, RED),
    ],
)
def test_a_clip_of_another_shape_is_made_to_fit(
    context: HandlerContext,
    tmp_path: Path,
    fit: VideoFit.ValueType,
    corner: tuple[int, int, int],
    middle: tuple[int, int, int],
) -> None:
    # Given a wide clip, white at its left and right edge
    wide = plain(RED, width=64, height=32)
    wide[:, :8] = wide[:, -8:] = WHITE
    clip = VideoClip(video=context.upload(video_file([wide] * 2, tmp_path), suffix="mp4"))
    # When it is made square
    film = made(context, EditVideoInput(clips=[clip], width=64, height=64, fit=fit))
    # Then its corner tells how
    picture = film.pictures[0]
    assert picture.shape == (64, 64, 3)
    assert is_near(colour_of(picture[1:5, 1:5]), corner)
    assert is_near(colour_of(picture[28:36, 28:36]), middle)


def test_an_overlay_is_seen_where_and_while_it_is_there(
    context: HandlerContext, green_to_blue: MediaReference
) -> None:
    logo = np.zeros((4, 4, 4), np.uint8)
    logo[:, :] = (*WHITE, 255)
    logo[:, 2:, 3] = 0  # transparent on its right
    film = made(
        context,
        EditVideoInput(
            clips=[VideoClip(video=green_to_blue)],
            overlays=[
                VideoOverlay(
                    image=context.upload(png(logo), suffix="png"),
                    left=8,
                    top=4,
                    width=16,
                    opacity=0.5,
                    start=seconds(0.2),
                    end=seconds(0.4),
                )
            ],
        ),
    )
    half = tuple(round((a + b) / 2) for a, b in zip(WHITE, GREEN, strict=True))
    for number, picture in enumerate(film.pictures[:5]):
        is_there = number in {2, 3}
        under = colour_of(picture[7:17, 10:14])
        assert is_near(under, (half[0], half[1], half[2]) if is_there else GREEN, within=16)
        assert is_near(colour_of(picture[7:17, 19:23]), GREEN, within=16)


def test_a_soundtrack_is_heard_with_the_clips_or_instead_of_them(
    context: HandlerContext, red: MediaReference, tmp_path: Path
) -> None:
    track = context.upload(sound_file(tone(1000, seconds=3), tmp_path), suffix="wav")
    clips = [VideoClip(video=red)]
    both = made(context, EditVideoInput(clips=clips, soundtrack=Soundtrack(audio=track)))
    alone = made(
        context,
        EditVideoInput(
            clips=clips,
            soundtrack=Soundtrack(audio=track, clips=CLIP_SOUND_DROP, volume_db=-6.0206),
        ),
    )
    assert level_of(both.waveform[:, :RATE], hertz=440, rate=RATE) == pytest.approx(0.5, abs=0.05)
    assert level_of(both.waveform[:, :RATE], hertz=1000, rate=RATE) == pytest.approx(0.5, abs=0.05)
    assert level_of(alone.waveform[:, :RATE], hertz=440, rate=RATE) < 0.01
    assert level_of(alone.waveform[:, :RATE], hertz=1000, rate=RATE) == pytest.approx(
        0.25, abs=0.03
    )
    # And it ends with the film
    assert both.seconds == pytest.approx(1, abs=0.05)


def test_a_clip_whose_sound_is_dropped_is_silent(
    context: HandlerContext, red: MediaReference
) -> None:
    input = EditVideoInput(clips=[VideoClip(video=red, sound=CLIP_SOUND_DROP)])
    output = edit_video.run(input, context)
    assert not output.video.HasField("channels")
    assert seen(context.content(output.video)).codecs == ("h264",)


@pytest.mark.parametrize(
    ("format", "codecs"),
    [
        (VIDEO_FORMAT_MP4, ("h264", "aac")),
        (VIDEO_FORMAT_WEBM, ("vp9", "opus")),
        (VIDEO_FORMAT_GIF, ("gif",)),
    ],
)
def test_every_format_is_written_and_read_again(
    context: HandlerContext,
    red: MediaReference,
    format: VideoFormat.ValueType,  # noqa: A002 - the contract's word
    codecs: tuple[str, ...],
) -> None:
    # Given a film of that format
    first = edit_video.run(EditVideoInput(clips=[VideoClip(video=red)], format=format), context)
    film = seen(context.content(first.video))
    assert film.codecs == codecs
    assert colours(film) == ["red"] * 10
    # When it is made into another one, then its pictures and its sound are still there
    clip = VideoClip(video=MediaReference(uri=first.video.uri))
    again = made(context, EditVideoInput(clips=[clip], frame_rate=10))
    assert colours(again) == ["red"] * 10
    assert ("aac" in again.codecs) is (len(codecs) == 2)


def test_the_same_input_gives_the_same_film(context: HandlerContext, red: MediaReference) -> None:
    input = EditVideoInput(clips=[VideoClip(video=red)], width=48, height=32)
    first, second = (edit_video.run(input, context) for _ in range(2))
    assert first.video.sha256 == second.video.sha256
    assert first.thumbnail.sha256 == second.thumbnail.sha256


def test_progress_counts_pictures(context: HandlerContext, red: MediaReference) -> None:
    edit_video.run(EditVideoInput(clips=[VideoClip(video=red)] * 2), context)
    told = [(current, total) for current, total, _ in context.reports if total]
    assert told == [(number, 20) for number in range(1, 21)]
    assert PROGRESS_PHASE_ENCODING in context.phases


def test_a_stop_between_two_pictures_stores_nothing(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, reports=5)
    clip = VideoClip(video=context.upload(video_file([plain(RED)] * 9, tmp_path), suffix="mp4"))
    with pytest.raises(TaskStopped):
        edit_video.run(EditVideoInput(clips=[clip]), context)
    assert len(context.reports) == 5
    assert context.stored_keys() == []
    assert list(context.scratch.iterdir()) == []


def test_a_film_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, limits=MediaLimits(longest=timedelta(seconds=2)))
    clip = VideoClip(video=context.upload(video_file([plain(RED)] * 10, tmp_path), suffix="mp4"))
    with pytest.raises(HandlerFailure, match="would play longer than 2 seconds") as refused:
        edit_video.run(EditVideoInput(clips=[clip] * 3), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT


def test_a_sound_is_no_clip(context: HandlerContext, tmp_path: Path) -> None:
    sound = context.upload(sound_file(tone(440, seconds=0.2), tmp_path), suffix="wav")
    with pytest.raises(HandlerFailure, match="has no pictures"):
        edit_video.run(EditVideoInput(clips=[VideoClip(video=sound)]), context)


def test_every_fit_of_the_contract_has_its_way() -> None:
    assert set(FITS) == set(VideoFit.values())
