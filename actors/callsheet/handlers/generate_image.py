"""Render images from a prompt.

The images of one task are drawn one after the other, never as a batch: an image then depends on its
own seed alone, to the last bit, whatever the count is.
"""

import io
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from callsheet.runner.context import LoadedPipeline, Rendered, TaskContext
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_UNSPECIFIED,
    IMAGE_FORMAT_WEBP,
    GenerateImageInput,
    GenerateImageOutput,
    ImageFormat,
)

if TYPE_CHECKING:
    from PIL.Image import Image

#: One past the largest seed: every seed of a task is exact in a JSON number.
SEEDS: Final = 2**53


@dataclass(frozen=True)
class Encoding:
    """How Pillow writes a format; the options are all given, so that its bytes do not drift."""

    pillow_name: str
    media_type: str
    suffix: str
    options: Mapping[str, int | bool] = field(default_factory=dict[str, int | bool])


_PNG: Final = Encoding("PNG", "image/png", "png", {"compress_level": 6})

ENCODINGS: Final[Mapping[ImageFormat.ValueType, Encoding]] = MappingProxyType(
    {
        IMAGE_FORMAT_UNSPECIFIED: _PNG,
        IMAGE_FORMAT_PNG: _PNG,
        IMAGE_FORMAT_WEBP: Encoding(
            "WEBP", "image/webp", "webp", {"lossless": True, "quality": 80, "method": 4}
        ),
        IMAGE_FORMAT_JPEG: Encoding(
            "JPEG", "image/jpeg", "jpg", {"quality": 95, "subsampling": 0, "optimize": False}
        ),
    }
)


def run(input: GenerateImageInput, context: TaskContext) -> GenerateImageOutput:
    """Render the prompt count times, and return where the images were stored."""
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model)
    count = input.count or 1
    seed = input.seed if input.HasField("seed") else secrets.randbelow(SEEDS - count + 1)
    output = GenerateImageOutput(
        seed=seed,
        model=pipeline.model.name,
        model_revision=pipeline.model.revision,
        steps=input.steps or pipeline.model.default_steps,
        guidance_scale=_guidance_scale(input, pipeline),
    )
    for index in range(count):
        rendered = _render(input, context, pipeline, output=output, index=index)
        output.images.append(_stored(rendered.image, ENCODINGS[input.format], context))
        output.scheduler = rendered.scheduler
        output.width, output.height = rendered.image.size
    return output


def _render(
    input: GenerateImageInput,
    context: TaskContext,
    pipeline: LoadedPipeline,
    *,
    output: GenerateImageOutput,
    index: int,
) -> Rendered:
    return pipeline.render(
        input.prompt,
        negative_prompt=input.negative_prompt,
        width=input.width or pipeline.model.default_width,
        height=input.height or pipeline.model.default_height,
        steps=output.steps,
        guidance_scale=output.guidance_scale,
        seed=output.seed + index,
        scheduler=input.scheduler,
        on_step=_reporter(context, index=index, count=input.count or 1),
    )


def _reporter(context: TaskContext, *, index: int, count: int) -> Callable[[int, int], None]:
    """Return what reports the steps of one image as steps of them all."""

    def report(step: int, of: int) -> None:
        image = f"image {index + 1} of {count}, " if count > 1 else ""
        context.report(index * of + step, count * of, f"{image}step {step} of {of}")

    return report


def _guidance_scale(input: GenerateImageInput, pipeline: LoadedPipeline) -> float:
    if input.HasField("guidance_scale"):
        return input.guidance_scale
    return pipeline.model.default_guidance_scale


def _stored(image: "Image", encoding: Encoding, context: TaskContext) -> Artifact:
    content = io.BytesIO()
    image.convert("RGB").save(content, encoding.pillow_name, **encoding.options)
    return context.put(
        content.getvalue(),
        media_type=encoding.media_type,
        suffix=encoding.suffix,
        width=image.width,
        height=image.height,
    )
