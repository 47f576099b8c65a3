"""The task type generate_audio, on the tiny model: what comes out is decoded and measured."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from callsheet.handlers import generate_audio
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runtime.families import Family
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_PROVENANCE
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    AUDIO_FORMAT_MP3,
    AUDIO_FORMAT_OPUS,
    AUDIO_FORMAT_WAV,
    REPRODUCIBILITY_STRICT,
    AudioFormat,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import Seen, seen, tone
from tests.support.rendering import built_in, warm

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def context(tmp_path: Path, cache_dir: Path) -> HandlerContext:
    pipeline = warm(Family.STABLE_AUDIO, cache_dir=cache_dir)
    context = HandlerContext(tmp_path, pipeline=pipeline)
    is_context(context)
    return context


def short(
    prompt: str = "rain on a roof",
    *,
    seed: int = 7,
    seconds: float = 0.25,
    steps: int = 1,
    format: AudioFormat.ValueType = AUDIO_FORMAT_WAV,  # noqa: A002 - the contract's word
) -> GenerateAudioInput:
    """Return an input that takes a moment."""
    asked = GenerateAudioInput(prompt=prompt, seed=seed, steps=steps, format=format)
    asked.duration.FromTimedelta(timedelta(seconds=seconds))
    return asked


def heard(context: HandlerContext, asked: GenerateAudioInput) -> Seen:
    return seen(context.content(generate_audio.run(asked, context).audio))


@pytest.mark.parametrize(
    ("format", "codec", "media_type", "rate"),
    [
        (AUDIO_FORMAT_WAV, "pcm_s16le", "audio/wav", 16_000),
        (AUDIO_FORMAT_FLAC, "flac", "audio/flac", 16_000),
        (AUDIO_FORMAT_MP3, "mp3", "audio/mpeg", 16_000),
        (AUDIO_FORMAT_OPUS, "opus", "audio/ogg", 48_000),
    ],
)
def test_sound_is_encoded_as_asked_and_as_long(
    context: HandlerContext,
    format: AudioFormat.ValueType,  # noqa: A002 - the contract's word
    codec: str,
    media_type: str,
    rate: int,
) -> None:
    output = generate_audio.run(short(seconds=0.3, format=format), context)
    sound = seen(context.content(output.audio))
    audio = output.audio
    is_exact = format in {AUDIO_FORMAT_WAV, AUDIO_FORMAT_FLAC}
    assert sound.seconds == pytest.approx(0.3, abs=0 if is_exact else 0.08)
    assert audio.duration.ToTimedelta().total_seconds() == pytest.approx(sound.seconds, abs=0.08)
    assert (sound.rate, audio.sample_rate) == (rate, rate)
    assert sound.waveform.shape[0] == audio.channels == 2
    assert (audio.media_type, audio.audio_codec) == (media_type, codec)
    assert float(np.abs(sound.waveform).max()) > 0.001


def test_it_is_told_how_the_sound_was_made(context: HandlerContext) -> None:
    output = generate_audio.run(short(), context)
    model = built_in(Family.STABLE_AUDIO)
    assert context.asked == [("", Mode.TEXT_TO_AUDIO)]
    assert (output.seed, output.model, output.rendering.steps) == (7, model.name, 1)
    assert output.rendering.guidance_scale == model.default_guidance_scale
    assert output.rendering.scheduler
    assert output.provenance.role == ARTIFACT_ROLE_PROVENANCE
    manifest = json.loads(context.content(output.provenance))
    told = manifest["assertions"][-1]["data"]
    assert (told["task_type"], told["seed"]) == ("generate_audio", 7)
    assert told["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    assert manifest["assertions"][0]["data"]["hash"] == output.audio.sha256
    # And the file says the same of itself
    assert json.loads(seen(context.content(output.audio)).metadata["comment"]) == told


def test_what_the_input_leaves_open_is_the_models_own(context: HandlerContext) -> None:
    output = generate_audio.run(GenerateAudioInput(prompt="rain"), context)
    model = built_in(Family.STABLE_AUDIO)
    assert output.audio.duration.ToTimedelta() == model.default_duration
    assert output.rendering.steps == model.default_steps
    assert context.reports[-1][:2] == (model.default_steps, model.default_steps)


def test_the_same_input_gives_the_same_sound_and_another_one_another(
    context: HandlerContext,
) -> None:
    usual, again, other_words, other_seed = (
        heard(context, asked)
        for asked in (short(), short(), short("a choir of whales"), short(seed=8))
    )
    assert np.array_equal(usual.waveform, again.waveform)
    assert not np.array_equal(usual.waveform, other_words.waveform)
    assert not np.array_equal(usual.waveform, other_seed.waveform)


def test_a_sound_that_is_too_long_for_the_model_is_refused(context: HandlerContext) -> None:
    with pytest.raises(HandlerFailure, match="at most 8 s") as refused:
        generate_audio.run(short(seconds=8.5), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


def test_a_stop_between_two_steps_stores_nothing(tmp_path: Path, cache_dir: Path) -> None:
    pipeline = warm(Family.STABLE_AUDIO, cache_dir=cache_dir)
    context = HandlerContext(tmp_path, pipeline=pipeline, reports=3)
    with pytest.raises(TaskStopped):
        generate_audio.run(short(steps=3), context)
    assert context.stored_keys() == []


class Hummer:
    """A model that hums, for so many samples more than it was asked for."""

    def __init__(self, *, more: int = 0) -> None:
        self.model = built_in(Family.STABLE_AUDIO)
        self.modes = frozenset({Mode.TEXT_TO_AUDIO})
        self.requests: list[RenderRequest] = []
        self._more = more

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Hum."""
        self.requests.append(request)
        seconds = request.duration.total_seconds() + self._more / 16_000
        item = RenderedItem(audio=tone(300, seconds=seconds, rate=16_000))
        return Rendered((item,), scheduler="Humming", sample_rate=16_000)


def is_pipeline(pipeline: LoadedPipeline) -> LoadedPipeline:
    """Let the type checker see that the test's pipeline is one."""
    return pipeline


@pytest.mark.parametrize("more", [-1, 0, 1, 800])
def test_a_sound_is_as_long_as_asked_to_the_sample(tmp_path: Path, more: int) -> None:
    context = HandlerContext(tmp_path, pipeline=is_pipeline(Hummer(more=more)))
    assert heard(context, short(seconds=0.2)).waveform.shape == (1, 3200)


def test_a_sound_that_ends_too_early_is_no_output(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=Hummer(more=-800))
    with pytest.raises(ValueError, match="800 samples too few"):
        generate_audio.run(short(seconds=0.2), context)
    assert context.stored_keys() == []


def test_the_model_is_asked_what_the_input_says(tmp_path: Path) -> None:
    hummer = Hummer()
    asked = short(steps=9)
    asked.negative_prompt, asked.guidance_scale = "drums", 0
    asked.model, asked.reproducibility = "tiny-stable_audio", REPRODUCIBILITY_STRICT
    context = HandlerContext(tmp_path, pipeline=hummer)
    generate_audio.run(asked, context)
    (request,) = hummer.requests
    (item,) = request.items
    assert context.asked == [("tiny-stable_audio", Mode.TEXT_TO_AUDIO)]
    assert (item.prompt, item.negative_prompt, item.seed) == ("rain on a roof", "drums", 7)
    assert (request.steps, request.guidance_scale) == (9, 0)
    assert request.reproducibility is Reproducibility.STRICT
    assert request.duration == timedelta(milliseconds=250)
