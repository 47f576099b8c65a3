"""Durations and Timestamps that mean nothing: protobuf carries them, and no rule sees them.

Their seconds and nanos are two numbers. Rules compare what they add up to, so that nanos of more
than a second, or of the other sign, pass; whoever reads such a message later fails on it.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_MOST_NANOS: Final = 999_999_999
#: 10,000 years.
_MOST_SECONDS: Final = 315_576_000_000
#: The years 1 and 9999.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799


def malformed_times(message: Message) -> list[tuple[str, str]]:
    """Return (path, problem) of each Duration or Timestamp in the message that is none.

    Messages in a list are not looked into: whoever takes them checks them one by one.
    """
    found: list[tuple[str, str]] = []
    for name, problem, has_more in _places(message.DESCRIPTOR):
        if not message.HasField(name):
            continue
        held = cast("Message", getattr(message, name))
        if has_more:
            for path, text in malformed_times(held):
                found.append((f"{name}.{path}", text))
        elif told := problem(held):
            found.append((name, told))
    return found


def _duration_problem(message: Message) -> str:
    length = cast("Duration", message)
    is_one = abs(length.nanos) <= _MOST_NANOS and abs(length.seconds) <= _MOST_SECONDS
    # A product below zero: their signs differ.
    return "" if is_one and length.seconds * length.nanos >= 0 else "is no well-formed Duration"


def _timestamp_problem(message: Message) -> str:
    moment = cast("Timestamp", message)
    is_one = 0 <= moment.nanos <= _MOST_NANOS and _FIRST_SECOND <= moment.seconds <= _LAST_SECOND
    return "" if is_one else "is no well-formed Timestamp"


def _no_problem(_: Message) -> str:
    return ""


_PROBLEMS: Final = {
    Duration.DESCRIPTOR.full_name: _duration_problem,
    Timestamp.DESCRIPTOR.full_name: _timestamp_problem,
}


@cache
def _places(descriptor: Descriptor) -> tuple[tuple[str, Callable[[Message], str], bool], ...]:
    """Return (field, what is wrong with it, whether it is a message that holds more) of each."""
    found: list[tuple[str, Callable[[Message], str], bool]] = []
    for field in cast("list[FieldDescriptor]", descriptor.fields):
        kind = field.message_type
        if kind is None or field.is_repeated:
            continue
        if kind.full_name in _PROBLEMS:
            found.append((field.name, _PROBLEMS[kind.full_name], False))
        elif kind is not descriptor and _places(kind):
            found.append((field.name, _no_problem, True))
    return tuple(found)
