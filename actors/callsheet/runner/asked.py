"""What the inputs of several task types ask in the same words, as a pipeline takes it."""

from collections.abc import Iterable
from typing import TypeAlias

from callsheet.runner.rendering import (
    ControlNetUse,
    LoraUse,
    Rendered,
    RenderRequest,
    Reproducibility,
    Words,
)
from callsheet.runner.seeds import seed_of
from callsheet.runtime.models import Model
from callsheet.tasks.v1 import media_pb2
from callsheet.tasks.v1.edit_image_pb2 import EditImageInput
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput
from callsheet.tasks.v1.generate_images_pb2 import GenerateImagesInput
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput

Asking: TypeAlias = EditImageInput | GenerateAudioInput | GenerateImagesInput | GenerateVideoInput


def seed_asked(input: Asking, task_id: str, *, count: int = 1) -> int:
    """Return the input's seed, or else the first of *count* that are the task's own."""
    return input.seed if input.HasField("seed") else seed_of(task_id, count=count)


def steps_asked(input: Asking, model: Model) -> int:
    """Return how many denoising steps there are to be."""
    return input.steps or model.default_steps


def guidance_asked(input: Asking, model: Model) -> float:
    """Return how strongly the prompt is to guide; zero is an answer too."""
    if input.HasField("guidance_scale"):
        return input.guidance_scale
    return model.default_guidance_scale


def reproducibility_asked(input: Asking) -> Reproducibility:
    """Return how exactly the same input is to give the same output."""
    if input.reproducibility == media_pb2.REPRODUCIBILITY_STRICT:
        return Reproducibility.STRICT
    return Reproducibility.BALANCED


def loras_asked(uses: Iterable[media_pb2.LoraUse]) -> tuple[LoraUse, ...]:
    """Return the LoRAs, each as strong as it was trained unless its message says more."""
    return tuple(LoraUse(use.name, use.weight if use.HasField("weight") else 1.0) for use in uses)


def controlnet_asked(use: media_pb2.ControlNetUse) -> ControlNetUse:
    """Return the ControlNet, followed as it was trained unless its message says more."""
    return ControlNetUse(use.name, use.scale if use.HasField("scale") else 1.0)


def words_of_many(count: int) -> Words:
    """Return the words for steps of images that are drawn one after the other."""

    def words(step: int, of: int) -> str:
        each = of // count
        image, done = divmod(max(step - 1, 0), each)
        of_many = f"image {image + 1} of {count}, " if count > 1 else ""
        return f"{of_many}step {min(done + 1, step)} of {each}"

    return words


def rendering_of(request: RenderRequest, rendered: Rendered) -> media_pb2.Rendering:
    """Return how it was rendered, for the output to tell."""
    return media_pb2.Rendering(
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        scheduler=rendered.scheduler,
        bucket=rendered.bucket,
    )
