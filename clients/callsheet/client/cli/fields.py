"""Command-line options made from the fields of an input message.

What was typed becomes protobuf JSON, and the JSON becomes the message: so types, ranges and names
are checked by the same code for options and for ``--json-input``.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from callsheet.client.cli.exits import UsageError
from callsheet.client.cli.spans import parse_span
from callsheet.client.submission import to_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    #: Turns what was typed into a value of protobuf JSON.
    Reader = Callable[[str], Any]

#: Where argparse keeps the values of fields, apart from those of other options.
DEST_PREFIX: Final = "field:"

_INTEGERS: Final = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    | {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
)
_FLOATS: Final = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


def add_fields(parser: argparse.ArgumentParser, input_class: type[Message]) -> None:
    """Add an option for each field; one whose name is taken becomes ``--input-<name>``."""
    group = parser.add_argument_group(f"the fields of {input_class.DESCRIPTOR.name}")
    for field in _fields(input_class):
        try:
            _add_field(group.add_argument, field, name=field.name)
        except argparse.ArgumentError:
            _add_field(group.add_argument, field, name=f"input_{field.name}")


def _add_field(add: Callable[..., argparse.Action], field: FieldDescriptor, *, name: str) -> None:
    options: dict[str, Any] = {
        "dest": DEST_PREFIX + field.name,
        "default": argparse.SUPPRESS,
        "help": "may be repeated" if field.is_repeated else None,
    }
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and not field.is_repeated:
        options["action"] = argparse.BooleanOptionalAction
    else:
        reader, metavar = _reader(field)
        action = "append" if field.is_repeated else "store"
        options |= {"type": reader, "metavar": metavar, "action": action}
    add(f"--{name.replace('_', '-')}", **options)
    if "_" in name:  # the name as the contract spells it
        add(f"--{name}", **options | {"help": argparse.SUPPRESS})


def read_input(
    input_class: type[Message], *, options: Mapping[str, Any], json_input: str | None
) -> Message:
    """Return the input message: what ``--json-input`` says, with options in place of its fields.

    Raises UsageError when it cannot be read as one.
    """
    message = input_class()
    try:
        if json_input is not None:
            json_format.Parse(_read_text(json_input), message)
        given = _given(input_class, options)
        for name in given:
            message.ClearField(name)
        return json_format.ParseDict(given, message)
    except json_format.ParseError as error:
        raise UsageError(f"not a {input_class.DESCRIPTOR.name}: {error}") from None


def _fields(input_class: type[Message]) -> Sequence[FieldDescriptor]:
    # The types know two classes of descriptors, one of them in C; they are one to their users.
    return cast("Sequence[FieldDescriptor]", input_class.DESCRIPTOR.fields)


def _given(input_class: type[Message], options: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for field in _fields(input_class):
        key = DEST_PREFIX + field.name
        if key in options:
            value = options[key]
            given[field.name] = dict(value) if _is_map(field) else value
    return given


def _read_text(source: str) -> str:
    try:
        if source == "-":
            return sys.stdin.read()
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {source}: {error}") from None


def _reader(field: FieldDescriptor) -> tuple[Reader, str]:
    if _is_map(field):
        value = _entry(field).fields_by_name["value"]
        return partial(_read_entry, _value_reader(value)), "KEY=VALUE"
    return _value_reader(field), _metavar(field)


def _value_reader(field: FieldDescriptor) -> Reader:
    if field.cpp_type in _INTEGERS:
        return _read_integer
    if field.cpp_type in _FLOATS:
        return _read_float
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _read_bool
    if field.enum_type is not None:
        return partial(_read_enum, field.enum_type)
    if field.message_type is None:
        return str  # text, or bytes as base64
    if field.message_type.full_name == "google.protobuf.Duration":
        return _read_duration
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return str  # RFC 3339
    return _read_json


def _metavar(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return "{" + ",".join(_short_names(field.enum_type)) + "}"
    if field.message_type is not None:
        names = {"Duration": "SPAN", "Timestamp": "TIME"}
        return names.get(field.message_type.name, "JSON")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "BASE64"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "{true,false}"
    return "TEXT" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else "NUMBER"


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _entry(field: FieldDescriptor) -> Descriptor:
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is not a map")
    return field.message_type


def _read_entry(read_value: Reader, text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"not of the form key=value: {text!r}")
    return key, read_value(value)


def _read_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"neither true nor false: {text!r}")
    return text == "true"


def _read_duration(text: str) -> str:
    return to_duration(parse_span(text)).ToJsonString()


def _read_json(text: str) -> Any:  # noqa: ANN401 - JSON is any of six types
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def _read_enum(enum: EnumDescriptor, text: str) -> str:
    wanted = text.upper().replace("-", "_")
    for name in enum.values_by_name:
        if wanted in (name, name.removeprefix(_prefix(enum))):
            return name
    known = ", ".join(_short_names(enum))
    raise argparse.ArgumentTypeError(f"not one of {known}: {text!r}")


def _short_names(enum: EnumDescriptor) -> list[str]:
    names = [each.name.removeprefix(_prefix(enum)) for each in enum.values if each.number]
    return [name.lower().replace("_", "-") for name in names]


def _prefix(enum: EnumDescriptor) -> str:
    """Return what all values of the enum begin with, by the rule that the zero one is named by."""
    zero = enum.values_by_number[0].name
    return zero.removesuffix("UNSPECIFIED") if zero.endswith("UNSPECIFIED") else ""
