"""Render images from a prompt.

The images of one task are drawn one after the other: an image then depends on its own seed alone,
to the last bit, whatever the count is. A task of one image may share its pass with other tasks, if
it does not ask for the same bits every time; its output tells how many did.
"""

from typing import TYPE_CHECKING

from callsheet.media.delivery import deliver_image
from callsheet.media.encodings import IMAGES
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.context import TaskContext
from callsheet.runner.rendering import (
    ControlNetUse,
    LoadedPipeline,
    LoraUse,
    Mode,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.seeds import seed_of
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT

if TYPE_CHECKING:
    from callsheet.runner.rendering import Pixels


def run(input: GenerateImageInput, context: TaskContext) -> GenerateImageOutput:
    """Render the prompt count times, and return where the images were stored."""
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=Mode.TEXT_TO_IMAGE)
    count = input.count or 1
    output = GenerateImageOutput(
        seed=input.seed if input.HasField("seed") else seed_of(context.task_id, count=count),
        model=pipeline.model.name,
        model_revision=pipeline.model.revision,
        steps=input.steps or pipeline.model.default_steps,
        guidance_scale=_guidance_scale(input, pipeline),
        width=input.width or pipeline.model.default_width,
        height=input.height or pipeline.model.default_height,
    )

    def words(step: int, of: int) -> str:
        each = of // count
        image, done = divmod(max(step - 1, 0), each)
        of_many = f"image {image + 1} of {count}, " if count > 1 else ""
        return f"{of_many}step {min(done + 1, step)} of {each}"

    rendered = pipeline.render(
        _request(input, output, control=_control_image(input, context)),
        context.controls(words=words, preview_every_steps=input.preview_every_steps),
    )
    for index, item in enumerate(rendered.items):
        if item.frames is not None:
            provenance = provenance_of(
                input,
                context,
                source=Source.MODEL,
                model=output.model,
                model_revision=output.model_revision,
                seed=output.seed + index,
                libraries=rendered.versions,
                tuning=rendered.tuning,
            )
            delivered = deliver_image(context, item.frames[0], IMAGES[input.format], provenance)
            output.images.append(delivered.image)
            output.thumbnails.append(delivered.thumbnail)
            output.provenance.append(delivered.provenance)
    output.scheduler, output.bucket = rendered.scheduler, rendered.bucket
    return output


def _control_image(input: GenerateImageInput, context: TaskContext) -> "Pixels | None":
    if not input.HasField("controlnet"):
        return None
    with context.open_media() as media:
        return media.image(input.controlnet.image)


def _request(
    input: GenerateImageInput, output: GenerateImageOutput, *, control: "Pixels | None"
) -> RenderRequest:
    use = input.controlnet
    return RenderRequest(
        mode=Mode.TEXT_TO_IMAGE,
        items=tuple(
            RenderItem(
                input.prompt,
                seed=output.seed + index,
                negative_prompt=input.negative_prompt,
                control=control,
            )
            for index in range(input.count or 1)
        ),
        width=output.width,
        height=output.height,
        steps=output.steps,
        guidance_scale=output.guidance_scale,
        scheduler=input.scheduler,
        loras=tuple(
            LoraUse(lora.name, lora.weight if lora.HasField("weight") else 1.0)
            for lora in input.loras
        ),
        controlnet=(
            None
            if control is None
            else ControlNetUse(use.name, use.scale if use.HasField("scale") else 1.0)
        ),
        reproducibility=_reproducibility(input),
    )


def _reproducibility(input: GenerateImageInput) -> Reproducibility:
    """Return whether others may share the pass of the task's one image."""
    if input.count > 1 or input.reproducibility == REPRODUCIBILITY_STRICT:
        # Of many more than is asked for, and no more memory than one image takes.
        return Reproducibility.STRICT
    return Reproducibility.BALANCED


def _guidance_scale(input: GenerateImageInput, pipeline: LoadedPipeline) -> float:
    if input.HasField("guidance_scale"):
        return input.guidance_scale
    return pipeline.model.default_guidance_scale
