"""The models, LoRAs and ControlNets that an input names, and whether they can do what it asks."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypedDict, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from callsheet.ledger.errors import InvalidField, ModelUnknown
from callsheet.runtime.input_models import is_set, marks_of, model_of, nested_in
from callsheet.runtime.models import Catalogue, Model, ModelUnfit, UnknownModel


class _Sizes(TypedDict, total=False):
    """The fields beside a model's name that say how large or how long a thing is to be."""

    width: int
    height: int
    frames: int
    duration: timedelta


def check_models(message: Message, catalogue: Catalogue, *, path: str) -> None:
    """Refuse what names a model that is not there, or that cannot do what is asked of it.

    *path* is where the message stands in its request.

    Raises:
        ModelUnknown: the catalogue has no model, LoRA or ControlNet of that name.
        InvalidField: it cannot do this, or not in that size, or not for the input's model.
    """
    _check(message, catalogue, path=path, model=None)


def _check(message: Message, catalogue: Catalogue, *, path: str, model: Model | None) -> None:
    marks = marks_of(message.DESCRIPTOR)
    if marks.model:
        with _refused_at(path, marks.model):
            model = model_of(message, catalogue)
            if model is not None:
                model.check(**_sizes(message))
    if model is not None:
        for field in marks.loras:
            with _refused_at(path, field):
                lora = catalogue.find_lora(str(getattr(message, field)), model=model)
                lora.check_weight(_weight(message))
        for field in marks.controlnets:
            with _refused_at(path, field):
                catalogue.find_controlnet(str(getattr(message, field)), model=model)
    seen: set[str] = set()
    for place, inner in nested_in(message):
        inner_path = f"{path}.{place}"
        _check(inner, catalogue, path=inner_path, model=model)
        for field in marks_of(inner.DESCRIPTOR).loras:
            if (name := str(getattr(inner, field))) in seen:
                raise InvalidField(((f"{inner_path}.{field}", f"LoRA {name} is named twice"),))
            seen.add(name)


@contextmanager
def _refused_at(path: str, field: str) -> Generator[None]:
    try:
        yield
    except UnknownModel as error:
        raise ModelUnknown(
            field=f"{path}.{field}",
            model=error.name,
            known=tuple(sorted(error.known)),
            what=error.what,
        ) from None
    except ModelUnfit as error:
        raise InvalidField(((f"{path}.{error.field or field}", str(error)),)) from None


def _sizes(message: Message) -> _Sizes:
    """Return what is set of the sizes, as Model.check takes them."""
    found: dict[str, object] = {}
    for name in _Sizes.__annotations__:
        if name in message.DESCRIPTOR.fields_by_name and is_set(message, name):
            value: object = getattr(message, name)
            found[name] = value.ToTimedelta() if isinstance(value, Duration) else value
    return cast("_Sizes", found)


def _weight(message: Message) -> float:
    """Return how strongly a LoRA bears: 1 while its message does not say."""
    return float(getattr(message, "weight", 1.0)) if is_set(message, "weight") else 1.0
