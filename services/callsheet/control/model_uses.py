"""The models, LoRAs and ControlNets that an input names, and whether they can do what it asks."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypedDict, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from callsheet.ledger.errors import InvalidField, ModelUnknown
from callsheet.runtime.families import Mode
from callsheet.runtime.models import Catalogue, ControlNet, Lora, Model, ModelUnfit, UnknownModel
from callsheet.tasks.v1 import options_pb2


class _Sizes(TypedDict, total=False):
    """The fields beside a model's name that say how large or how long a thing is to be."""

    width: int
    height: int
    frames: int
    duration: timedelta


@dataclass(frozen=True)
class _Marks:
    """What the contract says of the fields of a message that has to do with models."""

    model: str
    """The field that names the model. Empty: there is none."""
    is_optional: bool
    """Whether the work can be done without a model."""
    mode: Mode | None
    """What the model is asked to do. None: the contract does not say."""
    modes: Mapping[str, Mode]
    """What it is asked to do instead, while the field of that name is set."""
    loras: tuple[str, ...]
    controlnets: tuple[str, ...]


def model_of(message: Message, catalogue: Catalogue) -> Model | None:
    """Return the model that a message names or means. None: it asks for none.

    Raises what Catalogue.find does.
    """
    marks = _marks(message.DESCRIPTOR)
    name = str(getattr(message, marks.model)) if marks.model else ""
    if not marks.model or (marks.is_optional and not name):
        return None
    set_modes = (mode for field, mode in marks.modes.items() if _is_set(message, field))
    return catalogue.find(name, mode=next(set_modes, marks.mode))


def adapters_of(
    message: Message, catalogue: Catalogue, *, model: Model
) -> Iterator[Lora | ControlNet]:
    """Yield each LoRA and ControlNet that is named within a message, for its model.

    Raises what Catalogue.find_lora and find_controlnet do.
    """
    marks = _marks(message.DESCRIPTOR)
    for field in marks.loras:
        yield catalogue.find_lora(str(getattr(message, field)), model=model)
    for field in marks.controlnets:
        yield catalogue.find_controlnet(str(getattr(message, field)), model=model)
    for _, inner in _nested(message):
        yield from adapters_of(inner, catalogue, model=model)


def check_models(message: Message, catalogue: Catalogue, *, path: str) -> None:
    """Refuse what names a model that is not there, or that cannot do what is asked of it.

    *path* is where the message stands in its request.

    Raises:
        ModelUnknown: the catalogue has no model, LoRA or ControlNet of that name.
        InvalidField: it cannot do this, or not in that size, or not for the input's model.
    """
    _check(message, catalogue, path=path, model=None)


def _check(message: Message, catalogue: Catalogue, *, path: str, model: Model | None) -> None:
    marks = _marks(message.DESCRIPTOR)
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
    for place, inner in _nested(message):
        inner_path = f"{path}.{place}"
        _check(inner, catalogue, path=inner_path, model=model)
        for field in _marks(inner.DESCRIPTOR).loras:
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
        if name in message.DESCRIPTOR.fields_by_name and _is_set(message, name):
            value: object = getattr(message, name)
            found[name] = value.ToTimedelta() if isinstance(value, Duration) else value
    return cast("_Sizes", found)


def _weight(message: Message) -> float:
    """Return how strongly a LoRA bears: 1 while its message does not say."""
    return float(getattr(message, "weight", 1.0)) if _is_set(message, "weight") else 1.0


def _is_set(message: Message, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        return False
    if field.has_presence:
        return message.HasField(name)
    return bool(getattr(message, name))


def _nested(message: Message) -> Iterator[tuple[str, Message]]:
    """Yield the messages set within a message that may name models, and where they stand."""
    for field, value in cast("list[tuple[FieldDescriptor, object]]", message.ListFields()):
        if field.message_type is None or not _may_name(field.message_type):
            continue
        if field.is_repeated:
            for number, each in enumerate(cast("Iterable[Message]", value)):
                yield f"{field.name}[{number}]", each
        else:
            yield field.name, cast("Message", value)


@cache
def _may_name(descriptor: Descriptor) -> bool:
    """Whether a model may be named anywhere within; a spec's messages do not nest themselves."""
    marks = _marks(descriptor)
    return bool(marks.model or marks.loras or marks.controlnets) or any(
        _may_name(field.message_type)
        for field in descriptor.fields
        if field.message_type is not None
    )


@cache
def _marks(descriptor: Descriptor) -> _Marks:
    """Read the marks. Refuses a contract that contradicts itself."""
    needed = [field.name for field in _marked(descriptor, "model")]
    optional = [field.name for field in _marked(descriptor, "optional_model")]
    if len(needed) + len(optional) > 1:
        raise ValueError(f"{descriptor.name}: one field names the model")
    modes = {field.name: Mode(_option(field, "mode")) for field in _marked(descriptor, "mode")}
    model = next(iter(needed + optional), "")
    return _Marks(
        model=model,
        is_optional=bool(optional),
        mode=modes.pop(model, None),
        modes=modes,
        loras=tuple(field.name for field in _marked(descriptor, "lora")),
        controlnets=tuple(field.name for field in _marked(descriptor, "controlnet")),
    )


def _marked(descriptor: Descriptor, option: str) -> Iterator[FieldDescriptor]:
    return (field for field in descriptor.fields if _option(field, option))


def _option(field: FieldDescriptor, option: str) -> str:
    return cast("str", field.GetOptions().Extensions[getattr(options_pb2, option)])
