"""The shapes of what an input asks models to make, as far as the input itself tells them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from callsheet.runtime.families import Medium
from callsheet.runtime.input_defaults import fields_of
from callsheet.runtime.input_models import is_set, marks_of, mode_of, model_of, nested_in
from callsheet.runtime.memory_needs import Shape
from callsheet.runtime.models import Catalogue, Model
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT

#: The fields that a shape follows from, by what comes out of the model; the names are Shape's.
SIZES: Final[Mapping[Medium, tuple[str, ...]]] = MappingProxyType(
    {
        Medium.IMAGE: ("width", "height"),
        Medium.VIDEO: ("width", "height", "frames"),
        Medium.AUDIO: ("duration",),
    }
)


@dataclass(frozen=True)
class Wanted:
    """What a message asks of a model: one item of a shape."""

    model: Model
    shape: Shape
    is_exact: bool
    """Whether it is to be the same to the last bit."""
    path: str
    """Where the message stands."""
    model_field: str
    """The field of the message that names the model."""


def shapes_in(message: Message, catalogue: Catalogue, *, path: str) -> Iterator[Wanted]:
    """Yield what a checked message asks of models, where the shape follows from the message.

    Where it follows from a file, such as the image that is edited, nothing is yielded. *path* is
    where the message stands. Raises what Catalogue.find does.
    """
    model = model_of(message, catalogue)
    shape = None if model is None else _shape(message, model)
    if model is not None and shape is not None:
        strict = getattr(message, "reproducibility", None) == REPRODUCIBILITY_STRICT
        field = marks_of(message.DESCRIPTOR).model
        yield Wanted(model, shape, strict, path, field)
    for place, inner in nested_in(message):
        yield from shapes_in(inner, catalogue, path=f"{path}.{place}")


def _shape(message: Message, model: Model) -> Shape | None:
    mode = mode_of(message)
    told = {name: _told(message, name, model) for name in SIZES[model.traits.medium]}
    if mode is None or any(value is None for value in told.values()):
        return None
    # Each is of the type of the field of Shape that has its name.
    return Shape(mode, **told)  # pyright: ignore[reportArgumentType]  # as the line above says


def _told(message: Message, name: str, model: Model) -> int | timedelta | None:
    """Return what a field says or, unset, what the model does. None: another thing decides."""
    if is_set(message, name):
        value: object = getattr(message, name)
        return value.ToTimedelta() if isinstance(value, Duration) else cast("int", value)
    if name in fields_of(message.DESCRIPTOR).model_defaults:
        return cast("int | timedelta", getattr(model, f"default_{name}"))
    return None
