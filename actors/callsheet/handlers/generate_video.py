"""Render a video from a prompt, or from an image and a prompt."""

from fractions import Fraction
from typing import TYPE_CHECKING

from callsheet.media.delivery import deliver_video, frames_filler
from callsheet.media.encodings import VIDEOS
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.asked import (
    guidance_asked,
    loras_asked,
    rendering_of,
    reproducibility_asked,
    seed_asked,
    steps_asked,
)
from callsheet.runner.context import TaskContext
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runtime.models import Model
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput, GenerateVideoOutput

if TYPE_CHECKING:
    from callsheet.runner.rendering import Pixels


def run(input: GenerateVideoInput, context: TaskContext) -> GenerateVideoOutput:
    """Render the video, and return where it was stored."""
    image = _image(input, context)
    context.report(0, 0, "loading the model")
    mode = Mode.TEXT_TO_VIDEO if image is None else Mode.IMAGE_TO_VIDEO
    pipeline = context.pipeline(input.model, mode=mode)
    model, seed = pipeline.model, seed_asked(input, context.task_id)
    rate = input.frame_rate or model.default_frame_rate
    item = RenderItem(input.prompt, seed, negative_prompt=input.negative_prompt, image=image)
    request = _request(input, model, item, mode=mode, rate=rate)
    rendered = pipeline.render(
        request, context.controls(preview_every_steps=input.preview_every_steps)
    )
    frames = rendered.items[0].frames
    if frames is None or len(frames) != request.frames:
        raise ValueError(f"model {model.name} did not give the {request.frames} frames")
    delivered = deliver_video(
        context,
        frames_filler(context, iter(frames)),
        VIDEOS[input.format],
        provenance_of(
            input,
            context,
            source=Source.MODEL if image is None else Source.MODEL_AND_INPUT,
            model=model.name,
            model_revision=model.revision,
            seed=seed,
            libraries=rendered.versions,
            tuning=rendered.tuning,
        ),
        size=(frames.shape[2], frames.shape[1]),
        rate=Fraction(rate),
    )
    return GenerateVideoOutput(
        video=delivered.video,
        poster=delivered.poster,
        thumbnail=delivered.thumbnail,
        provenance=delivered.provenance,
        seed=seed,
        model=model.name,
        model_revision=model.revision,
        rendering=rendering_of(request, rendered),
    )


def _image(input: GenerateVideoInput, context: TaskContext) -> "Pixels | None":
    if not input.HasField("image"):
        return None
    context.report(0, 0, "reading the image")
    with context.open_media() as media:
        return media.image(input.image)


def _request(
    input: GenerateVideoInput, model: Model, item: RenderItem, *, mode: Mode, rate: int
) -> RenderRequest:
    return RenderRequest(
        mode=mode,
        items=(item,),
        width=input.width or model.default_width,
        height=input.height or model.default_height,
        steps=steps_asked(input, model),
        guidance_scale=guidance_asked(input, model),
        frames=input.frames or model.default_frames,
        frame_rate=float(rate),
        scheduler=input.scheduler,
        loras=loras_asked(input.loras),
        reproducibility=reproducibility_asked(input),
    )
