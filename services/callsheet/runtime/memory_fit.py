"""What a model could make where the memory does not suffice for what is asked of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from callsheet.runtime.families import Medium
from callsheet.runtime.memory_needs import Shape
from callsheet.runtime.models import Model

#: How many sizes between nothing and the one that is asked for are tried.
_GRADES: Final = 64


def largest_that_fits(model: Model, shape: Shape, *, fits: Callable[[Shape], bool]) -> Shape | None:
    """Return the most of a shape that fits: fewer at once, else shorter, else smaller.

    None: nothing of the model does.
    """
    for smaller in (_batches, _lengths, _sizes):
        for candidate in smaller(model, shape):
            if fits(candidate):
                return candidate
    return None


def words_of(shape: Shape) -> str:
    """Return a shape in words, such as "81 frames of 832x480"."""
    if not shape.width:
        seconds = shape.duration.total_seconds()
        size = f"{seconds:g} s of sound" if seconds else "sound"
    elif shape.frames > 1:
        size = f"{shape.frames} frames of {shape.width}x{shape.height}"
    else:
        size = f"{shape.width}x{shape.height}"
    return f"{shape.batch} times {size}" if shape.batch > 1 else size


def gigabytes(size: int) -> str:
    """Return bytes in words, with as many digits as matter."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _batches(_: Model, shape: Shape) -> Iterator[Shape]:
    for batch in range(shape.batch - 1, 0, -1):
        yield replace(shape, batch=batch)


def _lengths(model: Model, shape: Shape) -> Iterator[Shape]:
    step = model.traits.frames_multiple
    if model.traits.medium is Medium.AUDIO:
        # Of a family that always makes its whole window, a shorter one needs no less.
        for grade in range(_GRADES - 1, 0, -1):
            yield replace(shape, batch=1, duration=shape.duration * grade / _GRADES)
    elif shape.frames > 1:
        least = 1 + step
        for frames in range(shape.frames - step, least - 1, -step):
            yield replace(shape, batch=1, frames=frames)


def _sizes(model: Model, shape: Shape) -> Iterator[Shape]:
    multiple = model.traits.multiple
    if model.traits.medium is Medium.AUDIO:
        return
    for grade in range(_GRADES - 1, 0, -1):
        width, height = (
            side * grade // _GRADES // multiple * multiple for side in (shape.width, shape.height)
        )
        if width and height:
            yield replace(shape, batch=1, width=width, height=height)
