"""A film drawn anew by a model, all of its pictures together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from callsheet.media.film import Film, Shown
from callsheet.media.images import resized
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderItem,
    RenderRequest,
)
from callsheet.runner.seeds import seed_of
from callsheet.runtime.models import Model, ModelUnfit
from callsheet.tasks.v1.edit_video_pb2 import VideoStyle
from callsheet.tasks.v1.media_pb2 import Rendering
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.picture_decoding import Pixels

#: How far from the film a style may go that does not say.
STRENGTH: Final = 0.6


@dataclass(frozen=True)
class Styled:
    """A film as a model drew it."""

    pictures: Sequence[Shown]
    model: Model
    seed: int
    rendering: Rendering
    libraries: Mapping[str, str]
    tuning: Mapping[str, str]


def styled(style: VideoStyle, context: TaskContext, film: Film) -> Styled:
    """Return the film in the style. Raises HandlerFailure when it is too long for the model."""
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(style.model, mode=Mode.VIDEO_TO_VIDEO)
    model = pipeline.model
    size = _size(film.size, multiple=model.traits.multiple)
    shown = list(_gathered(film, context, most=_most_pictures(model, size, film)))
    seed = style.seed if style.HasField("seed") else seed_of(context.task_id)
    request = _request(style, pipeline, shown, size=size, rate=film.rate, seed=seed)
    rendered = pipeline.render(request, context.controls())
    frames = rendered.items[0].frames
    if frames is None or len(frames) < len(shown):
        raise ValueError(f"model {model.name} gave fewer pictures than it was given")
    width, height = film.size
    return Styled(
        pictures=[
            Shown(old.clip, resized(new, width=width, height=height))
            for old, new in zip(shown, frames, strict=False)  # those that only fill up are left
        ],
        model=model,
        seed=seed,
        rendering=Rendering(
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            scheduler=rendered.scheduler,
            bucket=rendered.bucket,
        ),
        libraries=rendered.versions,
        tuning=rendered.tuning,
    )


def _size(size: tuple[int, int], *, multiple: int) -> tuple[int, int]:
    """Return the next larger size that the model takes."""
    width, height = (-(-side // multiple) * multiple for side in size)
    return width, height


def _most_pictures(model: Model, size: tuple[int, int], film: Film) -> int:
    """Return how many pictures may be in memory, and in the model, at a time."""
    fitting = film.reader.limits.memory_bytes // (size[0] * size[1] * 3)
    return min(fitting, model.most_frames or fitting)


def _gathered(film: Film, context: TaskContext, *, most: int) -> Iterator[Shown]:
    for number, shown in enumerate(film.pictures(), start=1):
        if number > most:
            raise _invalid(f"a style takes at most {most} pictures of this size, and has more")
        context.report(0, 0, f"reading picture {number}")
        yield shown


def _request(
    style: VideoStyle,
    pipeline: LoadedPipeline,
    shown: Sequence[Shown],
    *,
    size: tuple[int, int],
    rate: Fraction,
    seed: int,
) -> RenderRequest:
    model, (width, height) = pipeline.model, size
    pixels = [resized(each.pixels, width=width, height=height) for each in shown]
    frames = _filled_up(pixels, multiple=model.traits.frames_multiple)
    try:
        model.check(width=width, height=height, frames=len(frames))
    except ModelUnfit as error:
        raise _invalid(str(error)) from error
    has_scale = style.HasField("guidance_scale")
    return RenderRequest(
        mode=Mode.VIDEO_TO_VIDEO,
        items=(
            RenderItem(
                style.prompt,
                seed,
                negative_prompt=style.negative_prompt,
                video=np.stack(frames),
            ),
        ),
        width=width,
        height=height,
        steps=style.steps or model.default_steps,
        guidance_scale=style.guidance_scale if has_scale else model.default_guidance_scale,
        strength=style.strength if style.HasField("strength") else STRENGTH,
        frames=len(frames),
        frame_rate=float(rate),
    )


def _filled_up(pixels: "list[Pixels]", *, multiple: int) -> "list[Pixels]":
    """Return the pictures, and the last one again until they are one more than a multiple."""
    missing = (1 - len(pixels)) % multiple
    return [*pixels, *([pixels[-1]] * missing)]


def _invalid(message: str) -> HandlerFailure:
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
