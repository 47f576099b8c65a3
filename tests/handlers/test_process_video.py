"""The task type process_video: what a video is, and what is seen and heard of its parts."""

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import process_video
from callsheet.media.limits import MediaLimits
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    Artifact,
)
from callsheet.tasks.v1.edit_video_pb2 import CLIP_SOUND_DROP
from callsheet.tasks.v1.generate_image_pb2 import IMAGE_FORMAT_JPEG
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    VIDEO_FORMAT_GIF,
    VIDEO_FORMAT_MP4,
    VIDEO_FORMAT_WEBM,
    MediaReference,
    VideoFormat,
)
from callsheet.tasks.v1.process_video_pb2 import (
    ProcessVideoInput,
    ProcessVideoOutput,
    VideoStream,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import (
    BLUE,
    GREEN,
    RED,
    Colour,
    colour_of,
    is_near,
    pitch_of,
    plain,
    png,
    seconds,
    seen,
    sound_file,
    tone,
    video_file,
)


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    context = HandlerContext(tmp_path)
    is_context(context)
    return context


@pytest.fixture
def film(context: HandlerContext, tmp_path: Path) -> MediaReference:
    """A second each of red, green and blue, ten pictures a second, over a tone of 700 hertz."""
    pictures = [plain(colour) for colour in (RED, GREEN, BLUE) for _ in range(10)]
    content = video_file(pictures, tmp_path, waveform=tone(700, seconds=3, channels=2))
    return context.upload(content, suffix="mp4")


def colours(context: HandlerContext, output: ProcessVideoOutput) -> list[Colour]:
    """Return the colour of each frame."""
    return [colour_of(pixels(context, frame.image)) for frame in output.frames]


def pixels(
    context: HandlerContext, image: Artifact
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a stored image's pixels."""
    with Image.open(io.BytesIO(context.content(image))) as opened:
        return np.asarray(opened.convert("RGB"))


def times(output: ProcessVideoOutput) -> list[float]:
    """Return since when each frame is shown, in seconds."""
    return [frame.time.ToTimedelta().total_seconds() for frame in output.frames]


def test_a_video_is_told_of_and_taken_apart(context: HandlerContext, film: MediaReference) -> None:
    output = process_video.run(ProcessVideoInput(video=film, frames=3), context)
    # Then its facts are those of its bytes
    told = output.metadata
    assert told.container == "MP4"
    assert told.size_bytes == Path(film.uri.removeprefix("file://")).stat().st_size
    assert told.duration.ToTimedelta().total_seconds() == pytest.approx(3, abs=0.05)
    assert (told.width, told.height, told.frame_rate, told.video_codec) == (32, 24, 10, "h264")
    assert (told.channels, told.sample_rate, told.audio_codec) == (2, 48_000, "aac")
    assert list(told.streams) == [
        VideoStream(kind="video", codec="h264"),
        VideoStream(kind="audio", codec="aac"),
    ]
    # And the frames are from the middle of each third
    assert times(output) == pytest.approx([0.5, 1.5, 2.5], abs=0.051)
    for found, wanted in zip(colours(context, output), (RED, GREEN, BLUE), strict=True):
        assert is_near(found, wanted)
    for frame in output.frames:
        assert (frame.image.media_type, frame.image.width, frame.image.height) == (
            "image/png",
            32,
            24,
        )
        assert frame.thumbnail.role == ARTIFACT_ROLE_THUMBNAIL
        assert frame.provenance.role == ARTIFACT_ROLE_PROVENANCE
    # And the sound is that of the video
    made = seen(context.content(output.sound))
    assert (made.codecs, made.rate, made.waveform.shape[0]) == (("pcm_s16le",), 48_000, 2)
    assert made.seconds == pytest.approx(3, abs=0.1)
    assert pitch_of(made.waveform, rate=made.rate) == pytest.approx(700, abs=2)
    assert output.sound_provenance.role == ARTIFACT_ROLE_PROVENANCE


def test_frames_are_taken_at_an_interval_and_no_more_than_asked_for(
    context: HandlerContext, film: MediaReference
) -> None:
    asked = ProcessVideoInput(video=film, frame_interval=seconds(0.8), sound=CLIP_SOUND_DROP)
    assert times(process_video.run(asked, context)) == pytest.approx([0, 0.8, 1.6, 2.4])
    asked.frames = 2
    assert times(process_video.run(asked, context)) == pytest.approx([0, 0.8])


def test_nobody_has_to_say_how_many_frames(context: HandlerContext, film: MediaReference) -> None:
    output = process_video.run(ProcessVideoInput(video=film, sound=CLIP_SOUND_DROP), context)
    assert len(output.frames) == process_video.FRAMES


def test_no_picture_comes_twice(context: HandlerContext, tmp_path: Path) -> None:
    content = video_file([plain(RED), plain(GREEN), plain(BLUE)], tmp_path, rate=2)
    film = context.upload(content, suffix="mp4")
    output = process_video.run(ProcessVideoInput(video=film, frames=12), context)
    assert times(output) == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("format", [VIDEO_FORMAT_MP4, VIDEO_FORMAT_WEBM])
def test_behind_the_last_picture_the_last_one_is_still_shown(
    context: HandlerContext,
    tmp_path: Path,
    format: VideoFormat.ValueType,  # noqa: A002 - the contract's word
) -> None:
    """A sound that goes on longer than the pictures is no fault of the file."""
    pictures = [plain(RED)] * 4 + [plain(BLUE)]
    content = video_file(pictures, tmp_path, waveform=tone(700, seconds=4), format=format)
    film = context.upload(content, suffix="mp4")
    asked = ProcessVideoInput(video=film, frame_interval=seconds(3), sound=CLIP_SOUND_DROP)
    output = process_video.run(asked, context)
    assert times(output) == pytest.approx([0, 0.4])
    assert is_near(colours(context, output)[1], BLUE)


def test_a_silent_video_has_no_sound_and_says_so(context: HandlerContext, tmp_path: Path) -> None:
    content = video_file([plain(RED)] * 5 + [plain(BLUE)] * 5, tmp_path, format=VIDEO_FORMAT_GIF)
    film = context.upload(content, suffix="gif")
    output = process_video.run(ProcessVideoInput(video=film, frames=2), context)
    assert (output.metadata.container, output.metadata.audio_codec) == ("GIF", "")
    assert not output.metadata.HasField("channels")
    assert not output.HasField("sound")
    assert not output.HasField("sound_provenance")
    assert is_near(colours(context, output)[1], BLUE)


def test_a_video_that_does_not_say_how_long_it_plays_is_counted(
    context: HandlerContext, tmp_path: Path
) -> None:
    """As one that was written as it was filmed, whose head came first."""
    content = video_file([plain(RED)] * 10, tmp_path, format=VIDEO_FORMAT_WEBM)
    head = content.index(b"\x44\x89\x88")  # Matroska's Duration, of eight bytes
    content = content[: head + 3] + bytes(8) + content[head + 11 :]
    film = context.upload(content, suffix="webm")
    with context.open_media() as media:
        assert media.facts(film).duration is None
    output = process_video.run(ProcessVideoInput(video=film, frames=1), context)
    assert output.metadata.duration.ToTimedelta() == timedelta(seconds=1)
    assert times(output) == pytest.approx([0.5], abs=0.051)


def test_parts_come_in_the_size_and_the_formats_that_are_asked_for(
    context: HandlerContext, film: MediaReference
) -> None:
    asked = ProcessVideoInput(
        video=film,
        frames=1,
        longest_side=16,
        frame_format=IMAGE_FORMAT_JPEG,
        sound_format=AUDIO_FORMAT_FLAC,
    )
    output = process_video.run(asked, context)
    image = output.frames[0].image
    assert (image.media_type, image.width, image.height) == ("image/jpeg", 16, 12)
    assert output.sound.media_type == "audio/flac"
    # And nothing is made larger
    asked.longest_side = 4096
    assert process_video.run(asked, context).frames[0].image.width == 32


def test_the_facts_alone_can_be_asked_for(context: HandlerContext, film: MediaReference) -> None:
    asked = ProcessVideoInput(video=film, frames=0, sound=CLIP_SOUND_DROP)
    output = process_video.run(asked, context)
    assert output.metadata.width == 32
    assert not output.frames
    assert context.stored_keys() == []


def test_the_same_video_gives_the_same_parts(context: HandlerContext, film: MediaReference) -> None:
    asked = ProcessVideoInput(video=film, frames=2)
    first, second = (process_video.run(asked, context) for _ in range(2))
    assert [it.image.sha256 for it in first.frames] == [it.image.sha256 for it in second.frames]
    assert first.sound.sha256 == second.sound.sha256


def test_progress_counts_the_frames_and_then_the_seconds_of_sound(
    context: HandlerContext, film: MediaReference
) -> None:
    process_video.run(ProcessVideoInput(video=film, frames=4), context)
    told = [report for report in context.reports if report[1]]
    assert told[:4] == [(number, 7, f"frame {number} of 4") for number in (1, 2, 3, 4)]
    assert told[-1] == (7, 7, "sound: 3 seconds")
    assert sorted(current for current, _, _ in told) == [current for current, _, _ in told]


def test_a_stop_before_the_first_frame_stores_nothing(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, reports=1)
    film = context.upload(video_file([plain(RED)] * 3, tmp_path), suffix="mp4")
    with pytest.raises(TaskStopped):
        process_video.run(ProcessVideoInput(video=film), context)
    assert context.stored_keys() == []


def test_what_is_no_video_is_refused_in_words(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, limits=MediaLimits(longest=timedelta(seconds=2)))
    refused = {
        "has no pictures": context.upload(sound_file(tone(440), tmp_path), suffix="wav"),
        "is an image": context.upload(png(plain(RED)), suffix="png"),
        "plays longer than 2 seconds": context.upload(
            video_file([plain(RED)] * 30, tmp_path), suffix="mp4"
        ),
    }
    for words, reference in refused.items():
        with pytest.raises(HandlerFailure, match=words) as failure:
            process_video.run(ProcessVideoInput(video=reference), context)
        assert failure.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []
