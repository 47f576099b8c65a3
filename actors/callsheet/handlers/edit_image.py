"""Draw an image anew: from an image, within a mask, or as an instruction says.

The images of one task are drawn one after the other, never as a batch: an image then depends on its
own seed alone, to the last bit, whatever the count is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callsheet.media.delivery import deliver_image
from callsheet.media.encodings import IMAGES
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.asked import (
    controlnet_asked,
    guidance_asked,
    loras_asked,
    rendering_of,
    seed_asked,
    steps_asked,
    words_of_many,
)
from callsheet.runner.context import TaskContext
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest, Reproducibility
from callsheet.runtime.models import Model
from callsheet.tasks.v1.edit_image_pb2 import (
    IMAGE_EDIT_METHOD_INSTRUCTION,
    EditImageInput,
    EditImageOutput,
)

if TYPE_CHECKING:
    from callsheet.runner.rendering import Pixels

#: How far an edit may go from its image that does not say; within a mask nothing stays.
STRENGTH: Final = 0.6
STRENGTH_IN_MASK: Final = 1.0
#: The sides that the contract allows, in pixels.
_LEAST: Final = 64
_MOST: Final = 2048


def run(input: EditImageInput, context: TaskContext) -> EditImageOutput:
    """Draw count images from the one that is given, and return where they were stored."""
    context.report(0, 0, "reading the image")
    given = _given(input, context)
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=_mode(input))
    model, count = pipeline.model, input.count or 1
    seed = seed_asked(input, context.task_id, count=count)
    request = _request(input, model, given, seed=seed)
    rendered = pipeline.render(
        request,
        context.controls(words=words_of_many(count), preview_every_steps=input.preview_every_steps),
    )
    output = EditImageOutput(
        seed=seed,
        model=model.name,
        model_revision=model.revision,
        rendering=rendering_of(request, rendered),
        strength=request.strength,
    )
    for item, drawn in zip(request.items, rendered.items, strict=True):
        if drawn.frames is None:
            raise ValueError(f"model {model.name} drew nothing")
        delivered = deliver_image(
            context,
            given.kept(drawn.frames[0]),
            IMAGES[input.format],
            provenance_of(
                input,
                context,
                source=Source.MODEL_AND_INPUT,
                model=model.name,
                model_revision=model.revision,
                seed=item.seed,
                libraries=rendered.versions,
                tuning=rendered.tuning,
            ),
        )
        output.images.append(delivered.image)
        output.thumbnails.append(delivered.thumbnail)
        output.provenance.append(delivered.provenance)
    return output


@dataclass(frozen=True, eq=False)
class _Given:
    """The images that an edit starts from, decoded."""

    image: "Pixels"
    mask: "Pixels | None"
    """Height x width, of the image's size."""
    control: "Pixels | None"

    def kept(self, drawn: "Pixels") -> "Pixels":
        """Return what was drawn, with the image itself where the mask is black.

        A model's decoder would give back nearly those pixels, and not the very same.
        """
        if self.mask is None:
            return drawn
        import numpy as np

        from callsheet.media.images import resized

        height, width = drawn.shape[:2]
        image = resized(self.image, width=width, height=height).astype(np.uint32)
        mask = _shades(self.mask, width=width, height=height).astype(np.uint32)
        share = mask[:, :, None]
        return ((drawn * share + image * (255 - share) + 127) // 255).astype(np.uint8)


def _given(input: EditImageInput, context: TaskContext) -> _Given:
    with context.open_media() as media:
        image = media.image(input.image)
        mask = media.image(input.mask) if input.HasField("mask") else None
        has_control = input.HasField("controlnet")
        control = media.image(input.controlnet.image) if has_control else None
    height, width = image.shape[:2]
    shades = None if mask is None else _shades(mask, width=width, height=height)
    return _Given(image, shades, control)


def _shades(mask: "Pixels", *, width: int, height: int) -> "Pixels":
    """Return how bright each pixel of the mask is, in another size and without new shades.

    What is black must stay so: a filter would let the bright side of an edge reach into it.
    """
    import numpy as np
    from PIL import Image

    grey = Image.fromarray(mask).convert("L")
    return np.asarray(grey.resize((width, height), Image.Resampling.NEAREST))


def _mode(input: EditImageInput) -> Mode:
    if input.method == IMAGE_EDIT_METHOD_INSTRUCTION:
        return Mode.INSTRUCT
    return Mode.INPAINT if input.HasField("mask") else Mode.IMAGE_TO_IMAGE


def _strength(input: EditImageInput) -> float | None:
    mode = _mode(input)
    if mode is Mode.INSTRUCT:
        return None
    if input.HasField("strength"):
        return input.strength
    return STRENGTH_IN_MASK if mode is Mode.INPAINT else STRENGTH


def _request(input: EditImageInput, model: Model, given: _Given, *, seed: int) -> RenderRequest:
    width, height = nearest_size(given.image, model)
    return RenderRequest(
        mode=_mode(input),
        items=tuple(
            RenderItem(
                input.prompt,
                seed + number,
                negative_prompt=input.negative_prompt,
                image=given.image,
                mask=given.mask,
                control=given.control,
            )
            for number in range(input.count or 1)
        ),
        width=input.width or width,
        height=input.height or height,
        steps=steps_asked(input, model),
        guidance_scale=guidance_asked(input, model),
        strength=_strength(input),
        scheduler=input.scheduler,
        loras=loras_asked(input.loras),
        controlnet=controlnet_asked(input.controlnet) if input.HasField("controlnet") else None,
        # More than is asked for, and no more memory than one image takes.
        reproducibility=Reproducibility.STRICT,
    )


def nearest_size(image: "Pixels", model: Model) -> tuple[int, int]:
    """Return an image's (width, height) as near as the model takes it, and nearly its shape."""
    multiple = model.traits.multiple
    sides = (image.shape[1], image.shape[0])
    bounds = (model.most_width or _MOST, model.most_height or _MOST)
    factor = min(1.0, *(bound / side for bound, side in zip(bounds, sides, strict=True)))
    least = -(-_LEAST // multiple) * multiple
    width, height = (
        min(max(round(side * factor / multiple) * multiple, least), bound // multiple * multiple)
        for side, bound in zip(sides, bounds, strict=True)
    )
    return width, height
