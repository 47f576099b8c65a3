"""Durations and Timestamps that mean nothing: protobuf carries them, and no rule sees them.

Their seconds and nanos are two numbers. Rules compare what they add up to, so that nanos of more
than a second, or of the other sign, pass; whoever reads such a message later fails on it.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from buf.validate import validate_pb2

_MOST_NANOS: Final = 999_999_999
#: 10,000 years.
_MOST_SECONDS: Final = 315_576_000_000
#: The years 1 and 9999.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799


def malformed_times(message: Message) -> list[tuple[str, str]]:
    """Return (path, problem) of each Duration or Timestamp in the message that is none.

    A list whose items the contract's rules ignore is passed over: whoever takes it checks them one
    by one.
    """
    found: list[tuple[str, str]] = []
    for place in _places(message.DESCRIPTOR):
        for path, held in _held(message, place):
            if place.problem is None:
                found += ((f"{path}.{inner}", text) for inner, text in malformed_times(held))
            elif told := place.problem(held):
                found.append((path, told))
    return found


class _Place(NamedTuple):
    """A field that holds a time, or messages that do."""

    name: str
    is_repeated: bool
    #: What is wrong with a time. None: the field holds a message with times in it.
    problem: Callable[[Message], str] | None


def _held(message: Message, place: _Place) -> Iterator[tuple[str, Message]]:
    if place.is_repeated:
        items = cast("Iterable[Message]", getattr(message, place.name))
        yield from ((f"{place.name}[{number}]", each) for number, each in enumerate(items))
    elif message.HasField(place.name):
        yield place.name, cast("Message", getattr(message, place.name))


def _duration_problem(message: Message) -> str:
    length = cast("Duration", message)
    is_one = abs(length.nanos) <= _MOST_NANOS and abs(length.seconds) <= _MOST_SECONDS
    # A product below zero: their signs differ.
    return "" if is_one and length.seconds * length.nanos >= 0 else "is no well-formed Duration"


def _timestamp_problem(message: Message) -> str:
    moment = cast("Timestamp", message)
    is_one = 0 <= moment.nanos <= _MOST_NANOS and _FIRST_SECOND <= moment.seconds <= _LAST_SECOND
    return "" if is_one else "is no well-formed Timestamp"


_PROBLEMS: Final = {
    Duration.DESCRIPTOR.full_name: _duration_problem,
    Timestamp.DESCRIPTOR.full_name: _timestamp_problem,
}


@cache
def _places(descriptor: Descriptor) -> tuple[_Place, ...]:
    found: list[_Place] = []
    for field in cast("list[FieldDescriptor]", descriptor.fields):
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry or _is_ignored(field):
            continue
        if kind.full_name in _PROBLEMS:
            found.append(_Place(field.name, field.is_repeated, _PROBLEMS[kind.full_name]))
        elif kind is not descriptor and _places(kind):
            found.append(_Place(field.name, field.is_repeated, None))
    return tuple(found)


def _is_ignored(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.repeated.items.ignore == validate_pb2.IGNORE_ALWAYS
