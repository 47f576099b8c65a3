"""What the fields of an input mean while they are unset, as the contract marks them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from callsheet.runtime.models import Model
from callsheet.tasks.v1 import options_pb2
from callsheet.tasks.v1.media_pb2 import Reproducibility


@dataclass(frozen=True)
class InputFields:
    """The fields of an input message by what the contract says of them."""

    models: tuple[str, ...]
    seeds: tuple[str, ...]
    model_defaults: tuple[str, ...]
    meanings: Mapping[str, object]
    without_bearing: tuple[str, ...]
    own_in_batch: tuple[str, ...]
    """What the tasks of a batch may have each of its own. Empty: they are never run together."""
    reproducibility: str
    """The field that says how exactly an output is to come again. Empty: there is none."""


def fill_in(input_message: Message, fields: InputFields, *, model: Model | None) -> None:
    """Set every field that is unset to what it means, and clear what has no bearing."""
    for name in fields.without_bearing:
        input_message.ClearField(name)
    if model is not None:
        for name in fields.models:
            setattr(input_message, name, model.name)
        for name in fields.model_defaults:
            if not input_message.HasField(name):
                _set(input_message, name, getattr(model, f"default_{name}"))
    for name, meaning in fields.meanings.items():
        if _is_unset(input_message, name):
            json_format.ParseDict({name: meaning}, input_message)


def _set(message: Message, name: str, value: object) -> None:
    if isinstance(value, timedelta):
        getattr(message, name).FromTimedelta(value)
    else:
        setattr(message, name, value)


def _is_unset(message: Message, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence:
        return not message.HasField(name)
    return getattr(message, name) == field.default_value


@cache
def fields_of(descriptor: Descriptor) -> InputFields:
    """Return what the contract says of the fields. Refuses a contract that contradicts itself."""
    found = InputFields(
        models=tuple(_marked(descriptor, "model")) or tuple(_marked(descriptor, "optional_model")),
        seeds=tuple(_marked(descriptor, "seed")),
        model_defaults=tuple(_marked(descriptor, "model_default")),
        meanings={
            name: json.loads(_option(descriptor, name, "unset_means"))
            for name in _marked(descriptor, "unset_means")
        },
        without_bearing=tuple(_marked(descriptor, "no_bearing")),
        own_in_batch=tuple(_marked(descriptor, "own_in_batch")),
        reproducibility=next(_fields_of_enum(descriptor, Reproducibility.DESCRIPTOR), ""),
    )
    for name in (*found.seeds, *found.model_defaults):
        if not descriptor.fields_by_name[name].has_presence:
            raise ValueError(f"{descriptor.name}.{name}: it must be known when it is unset")
    if found.model_defaults and not found.models:
        raise ValueError(f"{descriptor.name}: there is no model to take defaults from")
    return found


def _marked(descriptor: Descriptor, option: str) -> Iterator[str]:
    for field in descriptor.fields:
        if _option(descriptor, field.name, option):
            yield field.name


def _fields_of_enum(descriptor: Descriptor, enum: EnumDescriptor) -> Iterator[str]:
    return (field.name for field in descriptor.fields if field.enum_type is enum)


def _option(descriptor: Descriptor, field: str, option: str) -> str:
    extension = getattr(options_pb2, option)
    options = descriptor.fields_by_name[field].GetOptions()
    return cast("str", options.Extensions[extension])
