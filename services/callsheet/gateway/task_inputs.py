"""Turns the JSON of a task's input into its message; what does not fit is named by its path."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from callsheet.client.errors import Violation
from callsheet.gateway.problems import invalid

#: Messages whose JSON is no object of their fields.
_WELL_KNOWN: Final = "google.protobuf."
_SCALARS: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "a whole number of 64 bits",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number of 32 bits, not negative",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number of 64 bits, not negative",
    FieldDescriptor.CPPTYPE_STRING: "a text",
}


def to_message(kind: type[Message], values: Mapping[str, object], *, path: str) -> Message:
    """Return the message that the JSON object says, in the contract's names or in camelCase.

    *path* is where the object stands in its request; '' when it is the whole of it. Raises
    Refused, 400, with every field that is unknown or of another type, by its path.
    """
    violations = list(_violations(cast("Descriptor", kind.DESCRIPTOR), values, path))
    if violations:
        raise invalid(violations)
    message = kind()
    try:
        ParseDict(dict(values), message)
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise invalid([Violation(path, _first_line(error))]) from None
    return message


def _violations(
    descriptor: Descriptor, values: Mapping[str, object], path: str
) -> Iterator[Violation]:
    fields = {**descriptor.fields_by_camelcase_name, **descriptor.fields_by_name}
    for name, value in values.items():
        here = f"{path}.{name[:64]}" if path else name[:64]
        field = fields.get(name)
        if field is None:
            yield Violation(here, f"there is no such field in {descriptor.name}")
        elif (inner := _inner(field)) is not None and not field.is_repeated and value is not None:
            yield from _within(inner, value, here)
        elif inner is not None and isinstance(value, list):
            for number, each in enumerate(cast("list[object]", value)):
                yield from _within(inner, each, f"{here}[{number}]")
        elif not _parses(descriptor, name, value):
            yield Violation(here, f"must be {_wanted(field)}")


def _within(descriptor: Descriptor, value: object, path: str) -> Iterator[Violation]:
    if isinstance(value, dict):
        yield from _violations(descriptor, cast("dict[str, object]", value), path)
    else:
        yield Violation(path, f"must be an object of {descriptor.name}")


def _inner(field: FieldDescriptor) -> Descriptor | None:
    """Return the message whose fields stand in the field's JSON; None: it has none."""
    inner = field.message_type
    if inner is None or inner.GetOptions().map_entry or inner.full_name.startswith(_WELL_KNOWN):
        return None
    return inner


def _parses(descriptor: Descriptor, name: str, value: object) -> bool:
    try:
        ParseDict({name: value}, GetMessageClass(descriptor)())
    except (ParseError, ValueError, TypeError, RecursionError):
        return False
    return True


def _wanted(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "a list" if field.message_type is None else "as the contract has it"
    enum = field.enum_type
    if enum is not None:
        return f"one of {', '.join(value.name for value in enum.values)}"
    message = field.message_type
    if message is not None:
        return _WELL_KNOWN_JSON.get(message.full_name, f"a {message.name}")
    return _SCALARS.get(field.cpp_type, "of the right type")


#: What the JSON of messages is that are no objects there.
_WELL_KNOWN_JSON: Final[Mapping[str, str]] = {
    "google.protobuf.Duration": 'a duration such as "1.5s"',
    "google.protobuf.Timestamp": 'a time such as "2026-01-31T12:00:00Z"',
}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:160]
