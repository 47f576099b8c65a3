"""Edits and speech in a real runner, with files from a real store."""

import hashlib
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import AttemptEnded
from callsheet.media import espeak
from callsheet.tasks.v1.edit_audio_pb2 import AudioTrack, EditAudioInput, EditAudioOutput
from callsheet.tasks.v1.edit_video_pb2 import (
    EditVideoInput,
    EditVideoOutput,
    VideoClip,
    VideoStyle,
)
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.tasks.v1.process_video_pb2 import ProcessVideoInput, ProcessVideoOutput
from callsheet.tasks.v1.synthesize_speech_pb2 import (
    SynthesizeSpeechInput,
    SynthesizeSpeechOutput,
)
from callsheet.tasks.v1.upscale_image_pb2 import UpscaleImageInput, UpscaleImageOutput
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from callsheet.worker.runner_host import RunnerHost
from tests.support.media_files import RED, pitch_of, plain, png, seconds, seen, tone, video_file
from tests.support.runners import (
    PROJECT,
    ProgressLog,
    attempt_of,
    environment,
    failure_reason,
    reason,
    run,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def store(state_dir: Path) -> ArtifactStore:
    return ArtifactStore((state_dir / "artifacts").as_uri())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(state_dir: Path, cache_dir: Path) -> AsyncIterator[RunnerHost]:
    """A host of the product's own runners, who take few pixels."""
    host = RunnerHost(
        "cpu",
        environment=environment(
            state_dir, cache_dir=cache_dir, CALLSHEET_INPUT_MOST_PIXELS="10000"
        ),
    )
    yield host
    await host.close()


@pytest.fixture(scope="module")
def film(store: ArtifactStore, state_dir: Path) -> MediaReference:
    """A second of red, with a tone."""
    content = video_file([plain(RED)] * 10, state_dir, waveform=tone(440))
    return uploaded(store, content, state_dir, suffix="mp4")


def uploaded(store: ArtifactStore, content: bytes, folder: Path, *, suffix: str) -> MediaReference:
    path = folder / "brought"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    kept = store.put_upload(
        path, project=PROJECT, sha256=digest, media_type="video/mp4", suffix=suffix
    )
    return MediaReference(uri=kept.uri)


Output = TypeVar("Output", bound=Message)


async def made(host: RunnerHost, input: Message, output: Output) -> Output:
    """Return the output of an attempt, unpacked into the message given."""
    ended = await run(host, attempt_of(input))
    assert ended.output.Unpack(output), ended
    return output


async def test_a_film_becomes_a_part_of_a_film_and_that_a_sound(
    host: RunnerHost, store: ArtifactStore, film: MediaReference, cache_dir: Path
) -> None:
    # Given an artifact that a task made of an upload
    progress = ProgressLog()
    attempt = attempt_of(EditVideoInput(clips=[VideoClip(video=film, end=seconds(0.5))]))
    ended = await run(host, attempt, progress=progress)
    output = EditVideoOutput()
    assert ended.output.Unpack(output)
    assert len(seen(store.get(output.video.key)).pictures) == 5
    assert progress.seen[-1].total == 5
    assert ended.usage.encode_seconds > 0
    # When another task works on the artifact
    track = AudioTrack(audio=MediaReference(uri=output.video.uri))
    mixed = await made(host, EditAudioInput(tracks=[track]), EditAudioOutput())
    # Then what it made is of the first one, and nothing else is left
    heard = seen(store.get(mixed.audio.key))
    assert pitch_of(heard.waveform, rate=heard.rate) == pytest.approx(440, abs=3)
    assert mixed.audio.duration.ToTimedelta() <= timedelta(seconds=0.6)
    assert [*(cache_dir / "scratch").iterdir()] == []


async def test_a_video_is_taken_apart(
    host: RunnerHost, store: ArtifactStore, film: MediaReference
) -> None:
    parts = await made(host, ProcessVideoInput(video=film, frames=2), ProcessVideoOutput())
    assert (parts.metadata.container, parts.metadata.video_codec) == ("MP4", "h264")
    assert [store.get(frame.image.key)[:4] for frame in parts.frames] == [b"\x89PNG"] * 2
    heard = seen(store.get(parts.sound.key))
    assert pitch_of(heard.waveform, rate=heard.rate) == pytest.approx(440, abs=3)


@pytest.mark.skipif(
    shutil.which(espeak.PROGRAM) is None,
    reason="espeak-ng is not installed: the embedded voice is not tested",
)
async def test_a_text_is_said(host: RunnerHost, store: ArtifactStore) -> None:
    said = await made(host, SynthesizeSpeechInput(text="Action!"), SynthesizeSpeechOutput())
    assert seen(store.get(said.audio.key)).seconds > 0.3


async def test_an_image_is_made_larger_and_scored(
    host: RunnerHost, store: ArtifactStore, state_dir: Path
) -> None:
    image = uploaded(store, png(plain(RED)), state_dir, suffix="png")
    ended: AttemptEnded = await run(host, attempt_of(UpscaleImageInput(image=image)))
    output = UpscaleImageOutput()
    assert ended.output.Unpack(output)
    assert (output.image.width, output.image.height) == (64, 48)
    assert ended.quality.measure == "image-focus-exposure-1"


async def test_models_draw_a_style_say_a_text_and_make_an_image_larger(
    host: RunnerHost, store: ArtifactStore, film: MediaReference, state_dir: Path
) -> None:
    """The built-in models draw noise, so what is looked at is its size and length."""
    style = VideoStyle(prompt="a drawing", model="tiny-wan", seed=7, steps=2)
    clip = VideoClip(video=film, end=seconds(0.4))
    styled = await made(host, EditVideoInput(clips=[clip], style=style), EditVideoOutput())
    drawn = seen(store.get(styled.video.key))
    assert [picture.shape for picture in drawn.pictures] == [(24, 32, 3)] * 4
    assert drawn.codecs == ("h264", "aac")
    assert (styled.model, styled.seed, styled.rendering.steps) == ("tiny-wan", 7, 2)

    wanted = SynthesizeSpeechInput(text="Action!", model="tiny-vits", seed=7)
    said = await made(host, wanted, SynthesizeSpeechOutput())
    assert seen(store.get(said.audio.key)).rate == said.audio.sample_rate == 16_000

    image = uploaded(store, png(plain(RED, width=16, height=16)), state_dir, suffix="png")
    upscale = UpscaleImageInput(image=image, model="tiny-upscaler", seed=7, steps=2)
    large = await made(host, upscale, UpscaleImageOutput())
    assert (large.image.width, large.image.height, large.factor) == (64, 64, 4)


async def test_the_limits_are_those_of_the_settings(
    host: RunnerHost, store: ArtifactStore, state_dir: Path
) -> None:
    large = uploaded(store, png(plain(RED, width=101, height=100)), state_dir, suffix="png")
    ended = await run(host, attempt_of(UpscaleImageInput(image=large)))
    assert failure_reason(ended) == reason(FAILURE_REASON_INVALID_INPUT)
    assert "101 x 100 pixels; at most 10000" in ended.failure.message


async def test_a_file_of_another_project_is_never_read(
    host: RunnerHost, film: MediaReference
) -> None:
    """Control has refused such a submission; a worker does not rely on it."""
    other = MediaReference(uri=film.uri.replace(f"/{PROJECT}/", "/another/"))
    ended = await run(host, attempt_of(EditAudioInput(tracks=[AudioTrack(audio=other)])))
    assert failure_reason(ended) == reason(FAILURE_REASON_INVALID_INPUT)
    assert "is no file of the task's project" in ended.failure.message
