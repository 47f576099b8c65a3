"""Finding the handler of a task type, and the messages it takes and gives."""

import importlib
from functools import cache
from typing import Final, cast

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from callsheet.runner.context import Handler, HandlerFailure, UnknownTaskType
from callsheet.tasks.v1 import options_pb2
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from callsheet.v1.task_spec_pb2 import TaskSpec

_ROOM: Final = "callsheet.handlers"


@cache
def handler_for(task_type: str) -> Handler:
    """Return `run` of the type's handler module; raises UnknownTaskType."""
    _input_of(task_type)
    try:
        module = importlib.import_module(f"{_ROOM}.{task_type}")
    except ModuleNotFoundError as error:
        if error.name != f"{_ROOM}.{task_type}":
            raise
        raise UnknownTaskType(task_type) from error
    return cast("Handler", module.run)


@cache
def options_of(task_type: str) -> options_pb2.TaskType:
    """Return what the contract says of a task type; raises UnknownTaskType."""
    return _input_of(task_type).GetOptions().Extensions[options_pb2.task_type]


def holds_device(task_type: str) -> bool:
    """Tell whether attempts of a task type hold the device of their runner."""
    try:
        return options_of(task_type).resource_class == options_pb2.RESOURCE_CLASS_DEVICE
    except UnknownTaskType:
        return False


def unpack_input(task_type: str, packed: Any) -> Message:
    """Return the input message of a task type; raises UnknownTaskType, HandlerFailure."""
    message = GetMessageClass(_input_of(task_type))()
    if not packed.Unpack(message):
        raise HandlerFailure(
            FAILURE_REASON_INVALID_INPUT, f"a {task_type} takes no {packed.TypeName()}"
        )
    return message


def pack_output(task_type: str, output: Message) -> Any:
    """Return the output packed; raises TypeError when it is not what the contract says."""
    expected, given = options_of(task_type).output_type, output.DESCRIPTOR.full_name
    if given != expected:
        raise TypeError(f"the handler of {task_type} gave a {given}, not a {expected}")
    packed = Any()
    packed.Pack(output)
    return packed


def _input_of(task_type: str) -> Descriptor:
    field = TaskSpec.DESCRIPTOR.fields_by_name.get(task_type)
    if field is None or field.containing_oneof is None or field.message_type is None:
        raise UnknownTaskType(task_type)
    return field.message_type
