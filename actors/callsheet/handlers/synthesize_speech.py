"""Say a text: by the embedded voice, or by a model of the catalogue."""

from typing import TYPE_CHECKING

from callsheet.media.delivery import DeliveredSound, deliver_sound
from callsheet.media.encodings import SOUNDS
from callsheet.media.espeak import LANGUAGE, Espeak, Manner
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runner.seeds import seed_of
from callsheet.tasks.v1.synthesize_speech_pb2 import (
    SynthesizeSpeechInput,
    SynthesizeSpeechOutput,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.sound_decoding import Waveform
    from callsheet.media.sound_writer import SoundWriter


def run(input: SynthesizeSpeechInput, context: TaskContext) -> SynthesizeSpeechOutput:
    """Say the text, and return where the speech was stored."""
    if input.model:
        return _by_model(input, context)
    delivered = _by_embedded_voice(input, context)
    return SynthesizeSpeechOutput(audio=delivered.audio, provenance=delivered.provenance)


def _by_embedded_voice(input: SynthesizeSpeechInput, context: TaskContext) -> DeliveredSound:
    context.report(0, 0, "speaking")
    manner = Manner(language=input.language or LANGUAGE, speed=_speed(input), pitch=_pitch(input))
    limits = context.media_limits
    with Espeak(
        input.text, manner, limits=limits, check=context.check, folder=context.scratch
    ) as voice:

        def fill(writer: "SoundWriter") -> None:
            place = 0
            for samples in voice.samples():
                writer.write(samples)
                place += samples.shape[1]
                context.report(0, 0, f"speaking: {place / voice.rate:.0f} seconds")

        return deliver_sound(
            context,
            fill,
            SOUNDS[input.format],
            provenance_of(input, context, source=Source.ALGORITHM),
            rate=voice.rate,
            channels=1,
        )


def _by_model(input: SynthesizeSpeechInput, context: TaskContext) -> SynthesizeSpeechOutput:
    if _pitch(input) != 1:
        raise HandlerFailure(
            FAILURE_REASON_INVALID_INPUT, f"model {input.model} takes no pitch but 1"
        )
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=Mode.TEXT_TO_SPEECH)
    seed = input.seed if input.HasField("seed") else seed_of(context.task_id)
    rendered = pipeline.render(
        RenderRequest(mode=Mode.TEXT_TO_SPEECH, items=(RenderItem(input.text, seed),)),
        context.controls(),
    )
    spoken = rendered.items[0].audio
    if spoken is None or not rendered.sample_rate:
        raise ValueError(f"model {input.model} said nothing")
    model = pipeline.model

    def fill(writer: "SoundWriter") -> None:
        writer.write(_paced(spoken[:1], speed=_speed(input), rate=rendered.sample_rate))

    delivered = deliver_sound(
        context,
        fill,
        SOUNDS[input.format],
        provenance_of(
            input,
            context,
            source=Source.MODEL,
            model=model.name,
            model_revision=model.revision,
            seed=seed,
            libraries=rendered.versions,
            tuning=rendered.tuning,
        ),
        rate=rendered.sample_rate,
        channels=1,
    )
    return SynthesizeSpeechOutput(
        audio=delivered.audio,
        provenance=delivered.provenance,
        model=model.name,
        model_revision=model.revision,
        seed=seed,
    )


def _paced(waveform: "Waveform", *, speed: float, rate: int) -> "Waveform":
    """Return the speech faster or slower, at its own height."""
    if speed == 1:
        return waveform
    from callsheet.media.tempo import stretched

    return stretched(waveform, speed=speed, rate=rate)


def _speed(input: SynthesizeSpeechInput) -> float:
    return input.speed if input.HasField("speed") else 1.0


def _pitch(input: SynthesizeSpeechInput) -> float:
    return input.pitch if input.HasField("pitch") else 1.0
