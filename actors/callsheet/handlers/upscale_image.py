"""Make an image larger: by a filter, or by a model of the catalogue."""

from typing import TYPE_CHECKING, Final

from callsheet.media.delivery import DeliveredImage, deliver_image
from callsheet.media.encodings import IMAGES
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.seeds import seed_of
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT, Rendering
from callsheet.tasks.v1.upscale_image_pb2 import UpscaleImageInput, UpscaleImageOutput
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.picture_decoding import Pixels

#: How many times larger an image is made when nobody says, and no model does.
FACTOR: Final = 2


def run(input: UpscaleImageInput, context: TaskContext) -> UpscaleImageOutput:
    """Make the image larger, and return where it was stored."""
    context.report(0, 0, "reading the image")
    with context.open_media() as media:
        pixels = media.image(input.image)
    if input.model:
        return _by_model(input, context, pixels)
    return _by_filter(input, context, pixels)


def _by_filter(
    input: UpscaleImageInput, context: TaskContext, pixels: "Pixels"
) -> UpscaleImageOutput:
    from callsheet.media.images import resized

    factor = input.factor or FACTOR
    height, width = pixels.shape[:2]
    _check_size(context, width=width * factor, height=height * factor)
    delivered = deliver_image(
        context,
        resized(pixels, width=width * factor, height=height * factor),
        IMAGES[input.format],
        provenance_of(input, context, source=Source.ENHANCED),
    )
    return _output(delivered, factor=factor)


def _by_model(
    input: UpscaleImageInput, context: TaskContext, pixels: "Pixels"
) -> UpscaleImageOutput:
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=Mode.UPSCALE)
    model = pipeline.model
    factor = model.traits.factor
    if input.factor not in {0, factor}:
        raise _invalid(f"model {model.name} makes images {factor} times larger, and no other way")
    height, width = pixels.shape[:2]
    _check_size(context, width=width * factor, height=height * factor)
    seed = input.seed if input.HasField("seed") else seed_of(context.task_id)
    request = _request(input, pipeline, pixels, seed=seed)
    rendered = pipeline.render(
        request, context.controls(preview_every_steps=input.preview_every_steps)
    )
    frames = rendered.items[0].frames
    if frames is None:
        raise ValueError(f"model {model.name} drew nothing")
    delivered = deliver_image(
        context,
        frames[0],
        IMAGES[input.format],
        provenance_of(
            input,
            context,
            source=Source.MODEL_AND_INPUT,
            model=model.name,
            model_revision=model.revision,
            seed=seed,
            libraries=rendered.versions,
            tuning=rendered.tuning,
        ),
    )
    output = _output(delivered, factor=factor)
    output.model, output.model_revision, output.seed = model.name, model.revision, seed
    output.rendering.CopyFrom(
        Rendering(
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            scheduler=rendered.scheduler,
            bucket=rendered.bucket,
        )
    )
    return output


def _request(
    input: UpscaleImageInput, pipeline: LoadedPipeline, pixels: "Pixels", *, seed: int
) -> RenderRequest:
    model = pipeline.model
    has_scale = input.HasField("guidance_scale")
    is_strict = input.reproducibility == REPRODUCIBILITY_STRICT
    return RenderRequest(
        mode=Mode.UPSCALE,
        items=(
            RenderItem(input.prompt, seed, negative_prompt=input.negative_prompt, image=pixels),
        ),
        steps=input.steps or model.default_steps,
        guidance_scale=input.guidance_scale if has_scale else model.default_guidance_scale,
        reproducibility=Reproducibility.STRICT if is_strict else Reproducibility.BALANCED,
    )


def _output(delivered: DeliveredImage, *, factor: int) -> UpscaleImageOutput:
    return UpscaleImageOutput(
        image=delivered.image,
        thumbnail=delivered.thumbnail,
        provenance=delivered.provenance,
        factor=factor,
    )


def _check_size(context: TaskContext, *, width: int, height: int) -> None:
    most = context.media_limits.most_pixels
    if width * height > most:
        raise _invalid(f"{width} x {height} pixels are more than the {most} that are allowed")


def _invalid(message: str) -> HandlerFailure:
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
