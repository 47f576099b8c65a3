"""Render music or other sound from a prompt."""

from datetime import timedelta
from typing import TYPE_CHECKING

from callsheet.media.delivery import deliver_sound
from callsheet.media.encodings import SOUNDS
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.asked import (
    guidance_asked,
    rendering_of,
    reproducibility_asked,
    seed_asked,
    steps_asked,
)
from callsheet.runner.context import TaskContext
from callsheet.runner.rendering import Mode, Rendered, RenderItem, RenderRequest
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput, GenerateAudioOutput

if TYPE_CHECKING:
    from callsheet.media.sound_writer import SoundWriter
    from callsheet.runner.rendering import Waveform


def run(input: GenerateAudioInput, context: TaskContext) -> GenerateAudioOutput:
    """Render the prompt, and return where the sound was stored."""
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=Mode.TEXT_TO_AUDIO)
    model, seed = pipeline.model, seed_asked(input, context.task_id)
    has_duration = input.HasField("duration")
    request = RenderRequest(
        mode=Mode.TEXT_TO_AUDIO,
        items=(RenderItem(input.prompt, seed, negative_prompt=input.negative_prompt),),
        steps=steps_asked(input, model),
        guidance_scale=guidance_asked(input, model),
        duration=input.duration.ToTimedelta() if has_duration else model.default_duration,
        reproducibility=reproducibility_asked(input),
    )
    rendered = pipeline.render(request, context.controls())
    waveform = _heard(rendered, duration=request.duration)

    def fill(writer: "SoundWriter") -> None:
        context.check()
        writer.write(waveform)

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
        channels=waveform.shape[0],
    )
    return GenerateAudioOutput(
        audio=delivered.audio,
        provenance=delivered.provenance,
        seed=seed,
        model=model.name,
        model_revision=model.revision,
        rendering=rendering_of(request, rendered),
    )


def _heard(rendered: Rendered, *, duration: timedelta) -> "Waveform":
    """Return the sound, as long as was asked to the sample."""
    import numpy as np

    waveform = rendered.items[0].audio
    if waveform is None or not rendered.sample_rate:
        raise ValueError("the model gave no sound")
    wanted = duration * rendered.sample_rate // timedelta(seconds=1)
    missing = wanted - waveform.shape[1]
    # Whoever reckons in floating seconds may be off by one.
    if missing > 1:
        raise ValueError(f"the model gave {missing} samples too few")
    return np.pad(waveform[:, :wanted], ((0, 0), (0, max(missing, 0))))
