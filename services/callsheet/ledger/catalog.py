"""The task types, read from the contract itself."""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from functools import cache
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import Struct
from msgspec.structs import replace

from callsheet.ledger.errors import QueueNotFound
from callsheet.ledger.model import Backoff
from callsheet.tasks.v1 import options_pb2
from callsheet.v1.task_spec_pb2 import TaskSpec


class ResourceClass(Enum):
    """Which slots of a worker an attempt takes, and so where it runs."""

    WORKER = "worker"
    CPU = "cpu"
    DEVICE = "device"


_CLASSES = {
    options_pb2.RESOURCE_CLASS_WORKER: ResourceClass.WORKER,
    options_pb2.RESOURCE_CLASS_CPU: ResourceClass.CPU,
    options_pb2.RESOURCE_CLASS_DEVICE: ResourceClass.DEVICE,
}


class TaskType(Struct, frozen=True):
    """One arm of TaskSpec.input. Its name is also the actor's, the handler's and the word's."""

    name: str
    queue: str
    priority: int
    max_attempts: int
    backoff: Backoff
    time_limit: timedelta
    grace_period: timedelta
    resource_class: ResourceClass
    memory_limit_bytes: int | None
    output_type: str
    #: The fields of the input that name models of the catalogue of models.
    model_fields: tuple[str, ...]
    #: How long an output may be used again for an equal submission; None: it is not.
    cache_ttl: timedelta | None = None
    #: Whether attempts are given what the project knows.
    wants_context: bool = False


@cache
def task_types() -> Mapping[str, TaskType]:
    """Return every task type by name. Refuses a contract that contradicts itself."""
    types = {arm.name: _task_type(arm) for arm in _arms()}
    _check_queues(types)
    return MappingProxyType(types)


@cache
def queues() -> Mapping[str, ResourceClass]:
    """Return every queue by name, with the one resource class of its task types."""
    return MappingProxyType({kind.queue: kind.resource_class for kind in task_types().values()})


def with_waits(waits: Mapping[str, tuple[timedelta, ...]]) -> Mapping[str, TaskType]:
    """Return every task type by name, those of the named queues with other waits between attempts.

    Raises QueueNotFound.
    """
    for queue in waits:
        if queue not in queues():
            raise QueueNotFound(queue)
    return MappingProxyType(
        {
            name: replace(kind, backoff=replace(kind.backoff, waits=waits.get(kind.queue, ())))
            for name, kind in task_types().items()
        }
    )


def _arms() -> list[FieldDescriptor]:
    return list(TaskSpec.DESCRIPTOR.oneofs_by_name["input"].fields)


def _task_type(arm: FieldDescriptor) -> TaskType:
    message = arm.message_type
    if message is None or not message.GetOptions().HasExtension(options_pb2.task_type):
        raise ValueError(f"{arm.name}: an arm of TaskSpec.input is a message with a task_type")
    option = message.GetOptions().Extensions[options_pb2.task_type]
    if option.resource_class not in _CLASSES or not option.queue or not option.output_type:
        raise ValueError(f"{arm.name}: its task_type needs queue, resource_class and output_type")
    return TaskType(
        name=arm.name,
        queue=option.queue,
        priority=option.priority,
        max_attempts=max(1, option.max_attempts),
        backoff=Backoff(
            option.backoff.initial.ToTimedelta(),
            max(1.0, option.backoff.multiplier),
            option.backoff.maximum.ToTimedelta(),
        ),
        time_limit=option.time_limit.ToTimedelta(),
        grace_period=option.grace_period.ToTimedelta(),
        resource_class=_CLASSES[option.resource_class],
        memory_limit_bytes=option.memory_limit_bytes or None,
        output_type=option.output_type,
        model_fields=_model_fields(message),
        cache_ttl=option.cache_ttl.ToTimedelta() if option.HasField("cache_ttl") else None,
        wants_context=option.wants_context,
    )


def _model_fields(message: Descriptor) -> tuple[str, ...]:
    return tuple(
        field.name for field in message.fields if field.GetOptions().Extensions[options_pb2.model]
    )


def _check_queues(types: Mapping[str, TaskType]) -> None:
    """A worker knows from a queue's name alone whether it has room for its tasks."""
    classes: dict[str, ResourceClass] = {}
    for kind in types.values():
        if classes.setdefault(kind.queue, kind.resource_class) is not kind.resource_class:
            raise ValueError(f"{kind.name}: queue {kind.queue} has another resource class")
