"""The task type synthesize_speech: what is said is decoded and measured."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from callsheet.handlers import synthesize_speech
from callsheet.media import espeak
from callsheet.media.limits import MediaLimits
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
)
from callsheet.runtime.families import Family
from callsheet.runtime.models import built_in_model
from callsheet.tasks.v1.media_pb2 import AUDIO_FORMAT_OPUS
from callsheet.tasks.v1.synthesize_speech_pb2 import SynthesizeSpeechInput
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT, FAILURE_REASON_UNAVAILABLE
from tests.support.handling import HandlerContext
from tests.support.media_files import Seen, pitch_of, seen, tone

HELLO = "Good morning, everybody. The lighthouse is open."

with_espeak = pytest.mark.skipif(
    shutil.which(espeak.PROGRAM) is None,
    reason="espeak-ng is not installed: the embedded voice is not tested",
)


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    return HandlerContext(tmp_path)


def said(context: HandlerContext, input: SynthesizeSpeechInput) -> Seen:
    return seen(context.content(synthesize_speech.run(input, context).audio))


@with_espeak
def test_the_embedded_voice_says_a_text(context: HandlerContext) -> None:
    output = synthesize_speech.run(SynthesizeSpeechInput(text=HELLO), context)
    speech = seen(context.content(output.audio))
    # Then it is as long as somebody takes to say it, and has pauses and loud vowels
    assert 2 < speech.seconds < 6
    parts = np.array_split(np.abs(speech.waveform[0]), 100)
    loud = [float(part.max()) for part in parts]
    assert max(loud) > 0.2
    assert min(loud) < 0.02
    # And the voice is that of a man, whose pitch is far below a kilohertz
    assert pitch_of(speech.waveform, rate=speech.rate) < 1000
    assert (output.audio.channels, output.audio.sample_rate) == (1, 22_050)
    assert (output.model, output.HasField("seed")) == ("", False)
    told = json.loads(speech.metadata["comment"])
    assert told["digital_source_type"].endswith("/algorithmicMedia")
    assert told["parameters"]["text"] == HELLO


@with_espeak
def test_the_voice_is_as_fast_as_asked_and_always_the_same(context: HandlerContext) -> None:
    usual, again, fast = (
        said(context, SynthesizeSpeechInput(text=HELLO, speed=speed)) for speed in (1, 1, 2)
    )
    assert np.array_equal(usual.waveform, again.waveform)
    assert fast.seconds < 0.75 * usual.seconds


@with_espeak
def test_languages_and_heights_are_heard(context: HandlerContext) -> None:
    spoken = [
        said(context, SynthesizeSpeechInput(text="Jaguar", language=language, pitch=pitch))
        for language, pitch in (("en", 1), ("de", 1), ("en", 2))
    ]
    waveforms = {speech.waveform.tobytes() for speech in spoken}
    assert len(waveforms) == 3


@with_espeak
@pytest.mark.parametrize("text", ["<speak>&amp;</speak>", "-v xx --help", "ß ☃ 你好 \0 end", "..."])
def test_any_text_is_said_and_none_is_taken_for_an_option(
    context: HandlerContext, text: str
) -> None:
    assert said(context, SynthesizeSpeechInput(text=text)).rate == 22_050


@with_espeak
def test_a_language_that_nobody_speaks_is_refused(context: HandlerContext) -> None:
    with pytest.raises(HandlerFailure, match="does not speak 'xx'") as refused:
        synthesize_speech.run(SynthesizeSpeechInput(text=HELLO, language="xx"), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


@with_espeak
def test_a_text_that_takes_too_long_to_say_is_refused(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, limits=MediaLimits(longest=timedelta(seconds=2)))
    with pytest.raises(HandlerFailure, match="longer than 2 seconds"):
        synthesize_speech.run(SynthesizeSpeechInput(text=HELLO * 3), context)
    assert context.stored_keys() == []


@with_espeak
def test_a_stop_while_it_speaks_stores_nothing(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, reports=3)
    with pytest.raises(TaskStopped):
        synthesize_speech.run(SynthesizeSpeechInput(text=HELLO * 20), context)
    assert context.stored_keys() == []


def test_without_espeak_the_task_fails_as_unavailable(
    context: HandlerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HandlerFailure, match="espeak-ng is not installed") as refused:
        synthesize_speech.run(SynthesizeSpeechInput(text=HELLO), context)
    assert refused.value.reason == FAILURE_REASON_UNAVAILABLE


class Hummer:
    """A model that hums for a second, whatever it is to say."""

    def __init__(self) -> None:
        self.model = built_in_model(Family.VITS)
        self.modes = frozenset({Mode.TEXT_TO_SPEECH})
        self.requests: list[RenderRequest] = []

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Hum."""
        self.requests.append(request)
        item = RenderedItem(audio=tone(300, rate=16_000))
        return Rendered((item,), scheduler="", sample_rate=16_000, versions={"hummer": "2"})


def is_pipeline(pipeline: LoadedPipeline) -> LoadedPipeline:
    """Let the type checker see that the test's pipeline is one."""
    return pipeline


def test_a_model_says_it_as_fast_as_asked_at_its_own_height(tmp_path: Path) -> None:
    hummer = Hummer()
    context = HandlerContext(tmp_path, pipeline=is_pipeline(hummer))
    input = SynthesizeSpeechInput(
        text=HELLO, model="tiny-vits", seed=7, speed=2, format=AUDIO_FORMAT_OPUS
    )
    output = synthesize_speech.run(input, context)
    speech = seen(context.content(output.audio))
    assert context.asked == [("tiny-vits", Mode.TEXT_TO_SPEECH)]
    assert (hummer.requests[0].items[0].prompt, hummer.requests[0].items[0].seed) == (HELLO, 7)
    assert speech.seconds == pytest.approx(0.5, abs=0.05)
    assert pitch_of(speech.waveform, rate=speech.rate) == pytest.approx(300, abs=5)
    assert (output.model, output.seed, output.audio.audio_codec) == ("tiny-vits", 7, "opus")


def test_a_model_is_no_higher_than_it_is(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=Hummer())
    input = SynthesizeSpeechInput(text=HELLO, model="tiny-vits", pitch=2)
    with pytest.raises(HandlerFailure, match="takes no pitch"):
        synthesize_speech.run(input, context)
    assert context.asked == []
