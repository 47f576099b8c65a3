"""The artifacts that a task's output refers to, whatever its type."""

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from callsheet.tasks.v1.artifact_pb2 import Artifact


def unpacked(content: bytes) -> Message:
    """Return the message in an Any's bytes.

    Raises:
        ValueError: its type is not known here, or the bytes are not of that type.
    """
    packed = AnyMessage()
    try:
        packed.ParseFromString(content)
        kind = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
        return message_factory.GetMessageClass(kind).FromString(packed.value)
    except KeyError:
        raise ValueError(f"the output's type {packed.TypeName()!r} is not known here") from None
    except DecodeError as error:
        raise ValueError(f"the output cannot be read: {error}") from error


def artifacts_in(message: Message) -> Iterator[Artifact]:
    """Yield every artifact in the message, in the order of its fields."""
    if isinstance(message, Artifact):
        yield message
        return
    if isinstance(message, AnyMessage):
        yield from artifacts_in(unpacked(message.SerializeToString()))
        return
    for field, value in cast("list[tuple[FieldDescriptor, object]]", message.ListFields()):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in _messages(field, value):
                yield from artifacts_in(part)


def media_in(message: Message) -> Iterator[Artifact]:
    """Yield the artifacts in the message that were asked for, not those that go with them.

    Posters, thumbnails and provenance go with others.
    """
    return (each for each in artifacts_in(message) if not each.role)


def _messages(field: FieldDescriptor, value: object) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = cast("Mapping[str | int, object]", value)
        for key in sorted(entries, key=str):
            if isinstance(part := entries[key], Message):
                yield part
    else:
        yield from cast("Iterable[Message]", value)
