"""The task types of the contract, read from its descriptors: a new one needs no line here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from callsheet.client.errors import Unimplemented
from callsheet.tasks.v1 import options_pb2
from callsheet.v1 import task_spec_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.any_pb2 import Any as PackedMessage
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_ONEOF: Final = "input"


@dataclass(frozen=True)
class TaskType:
    """One kind of work, as the contract declares it."""

    #: The name of its arm in TaskSpec, which is its name everywhere.
    name: str
    #: Its input message.
    input_class: type[Message]
    #: Its policy: queue, attempts, time limit, output message.
    policy: options_pb2.TaskType

    @property
    def output_class(self) -> type[Message]:
        """Return its output message."""
        return _message_class(self.policy.output_type)


@cache
def task_types() -> Mapping[str, TaskType]:
    """Return all task types by name, in the order of the contract."""
    arms = task_spec_pb2.TaskSpec.DESCRIPTOR.oneofs_by_name[_ONEOF].fields
    return MappingProxyType(
        {arm.name: _task_type(arm.name, cast("Descriptor", arm.message_type)) for arm in arms}
    )


def _task_type(name: str, descriptor: Descriptor) -> TaskType:
    policy = descriptor.GetOptions().Extensions[options_pb2.task_type]
    return TaskType(name=name, input_class=GetMessageClass(descriptor), policy=policy)


@cache
def _names_by_input() -> Mapping[str, str]:
    return {each.input_class.DESCRIPTOR.full_name: each.name for each in task_types().values()}


def to_spec(input: Message) -> task_spec_pb2.TaskSpec:
    """Return the TaskSpec whose arm holds a copy of the input message; a TaskSpec as it is.

    Raises TypeError when the message is the input of no task type.
    """
    if isinstance(input, task_spec_pb2.TaskSpec):
        return input
    full_name = input.DESCRIPTOR.full_name
    name = _names_by_input().get(full_name)
    if name is None:
        known = ", ".join(sorted(_names_by_input()))
        raise TypeError(f"{full_name} is the input of no task type; inputs are: {known}")
    spec = task_spec_pb2.TaskSpec()
    arm = cast("Message", getattr(spec, name))
    arm.SetInParent()  # an input without any field set is one too
    arm.CopyFrom(input)
    return spec


def task_type_of(spec: task_spec_pb2.TaskSpec) -> TaskType | None:
    """Return the type of a TaskSpec. None: no arm is set, or one newer than this client."""
    name = spec.WhichOneof(_ONEOF)
    return None if name is None else task_types()[name]


def unpack(packed: PackedMessage) -> Message:
    """Return the message in an Any.

    Raises Unimplemented when its type is newer than this client.
    """
    try:
        message = _message_class(packed.TypeName())()
    except KeyError:
        raise Unimplemented(
            f"this client does not know the message {packed.TypeName()}",
            reason="OUTPUT_TYPE_UNKNOWN",
        ) from None
    packed.Unpack(message)
    return message


def _message_class(full_name: str) -> type[Message]:
    descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
    return GetMessageClass(descriptor)
