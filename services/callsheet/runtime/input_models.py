"""The models, LoRAs and ControlNets that an input names, as the contract marks its fields."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from callsheet.runtime.families import Mode
from callsheet.runtime.models import Catalogue, ControlNet, Lora, Model
from callsheet.tasks.v1 import options_pb2


@dataclass(frozen=True)
class ModelMarks:
    """What the contract says of the fields of a message that have to do with models."""

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
    marks = marks_of(message.DESCRIPTOR)
    name = str(getattr(message, marks.model)) if marks.model else ""
    if not marks.model or (marks.is_optional and not name):
        return None
    return catalogue.find(name, mode=mode_of(message))


def mode_of(message: Message) -> Mode | None:
    """Return what a message asks its model to do. None: the contract does not say."""
    marks = marks_of(message.DESCRIPTOR)
    set_modes = (mode for field, mode in marks.modes.items() if is_set(message, field))
    return next(set_modes, marks.mode)


def adapters_of(
    message: Message, catalogue: Catalogue, *, model: Model
) -> Iterator[Lora | ControlNet]:
    """Yield each LoRA and ControlNet that is named within a message, for its model.

    Raises what Catalogue.find_lora and find_controlnet do.
    """
    marks = marks_of(message.DESCRIPTOR)
    for field in marks.loras:
        yield catalogue.find_lora(str(getattr(message, field)), model=model)
    for field in marks.controlnets:
        yield catalogue.find_controlnet(str(getattr(message, field)), model=model)
    for _, inner in nested_in(message):
        yield from adapters_of(inner, catalogue, model=model)


def is_set(message: Message, name: str) -> bool:
    """Tell whether a field, if the message has one of that name, says anything."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        return False
    if field.has_presence:
        return message.HasField(name)
    return bool(getattr(message, name))


def nested_in(message: Message) -> Iterator[tuple[str, Message]]:
    """Yield the messages set within a message that may name models, and where they stand."""
    for field, value in cast("list[tuple[FieldDescriptor, object]]", message.ListFields()):
        if field.message_type is None or not names_models(field.message_type):
            continue
        if field.is_repeated:
            for number, each in enumerate(cast("Iterable[Message]", value)):
                yield f"{field.name}[{number}]", each
        else:
            yield field.name, cast("Message", value)


@cache
def names_models(descriptor: Descriptor) -> bool:
    """Whether a model may be named anywhere within; a spec's messages do not nest themselves."""
    marks = marks_of(descriptor)
    return bool(marks.model or marks.loras or marks.controlnets) or any(
        names_models(field.message_type)
        for field in descriptor.fields
        if field.message_type is not None
    )


@cache
def marks_of(descriptor: Descriptor) -> ModelMarks:
    """Return the marks of a message. Refuses a contract that contradicts itself."""
    needed = [field.name for field in _marked(descriptor, "model")]
    optional = [field.name for field in _marked(descriptor, "optional_model")]
    if len(needed) + len(optional) > 1:
        raise ValueError(f"{descriptor.name}: one field names the model")
    modes = {field.name: Mode(_option(field, "mode")) for field in _marked(descriptor, "mode")}
    model = next(iter(needed + optional), "")
    return ModelMarks(
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
