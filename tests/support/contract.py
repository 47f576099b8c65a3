"""The contract's calls and their input fields, from the descriptors: what matrices are made of."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

import callsheet.v1
from callsheet.v1.task_service_pb2 import CancelTaskRequest, SubmitTasksResponse
from tests.support.controls import Client

_PACKAGE: Final = "callsheet."
_STRINGS: Final = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})

#: An upload to the project that requests are about when they name none.
UPLOAD: Final = f"projects/default/uploads/{'0' * 32}.png"

#: What a message needs at least, beside what is asked about it; `{task_id}` is the caller's own.
_LEAST: Final[dict[str, dict[str, str]]] = {
    "Callback": {"url": "https://example.com/hook"},
    "CancelTaskRequest": {"task_id": "{task_id}"},
    "ControlNetUse": {"name": "tiny-sdxl-controlnet"},  # of the default model's family
    "DrainWorkerRequest": {"worker_id": "nobody"},
    "EditImageInput": {"prompt": "a lighthouse"},
    "GenerateAudioInput": {"prompt": "waves"},
    "GenerateImageInput": {"prompt": "a lighthouse"},
    "GenerateVideoInput": {"prompt": "a lighthouse"},
    "GetTaskRequest": {"task_id": "{task_id}"},
    "ImageItem": {"prompt": "a lighthouse"},
    "LoraUse": {"name": "tiny-sdxl-lora"},
    "MediaReference": {"uri": UPLOAD},
    "PauseQueueRequest": {"queue": "system"},
    "PauseWorkerRequest": {"worker_id": "nobody"},
    "ResumeQueueRequest": {"queue": "system"},
    "ResumeWorkerRequest": {"worker_id": "nobody"},
    "RetryTaskRequest": {"task_id": "{task_id}"},
    "SynthesizeSpeechInput": {"text": "good morning"},
    "TaskReplay": {"task_id": "{task_id}"},
    "VideoStyle": {"prompt": "a lighthouse"},
    "WaitTaskRequest": {"task_id": "{task_id}"},
    "WatchTaskRequest": {"task_id": "{task_id}"},
}
#: Messages and choices that must be there, by the message that needs them.
_CHOICES: Final[dict[str, str]] = {
    "AudioTrack": "audio",
    "ControlNetUse": "image",
    "EditAudioInput": "tracks",
    "EditImageInput": "image",
    "EditVideoInput": "clips",
    "GenerateImagesInput": "items",
    "ProcessVideoInput": "video",
    "ReplayDeliveriesRequest": "filter",
    "Soundtrack": "audio",
    "SubmitTaskRequest": "spec",
    "SubmitTasksRequest": "requests",
    "TaskSpec": "ping",
    "UpscaleImageInput": "image",
    "VideoClip": "video",
    "VideoOverlay": "image",
}


def _calls() -> Iterator[MethodDescriptor]:
    for module in pkgutil.iter_modules(callsheet.v1.__path__):
        if module.name.endswith("_service_pb2"):
            loaded = importlib.import_module(f"{callsheet.v1.__name__}.{module.name}")
            for service in cast("FileDescriptor", loaded.DESCRIPTOR).services_by_name.values():
                yield from service.methods


def call_name(method: MethodDescriptor) -> str:
    """Return what a call is named by here: `TaskService/GetTask`."""
    return f"{method.containing_service.name}/{method.name}"


#: Every call of every service of the contract, however many there will be.
CALLS: Final[dict[str, MethodDescriptor]] = {call_name(method): method for method in _calls()}


@dataclass(frozen=True)
class InputField:
    """A field of a call's request, however deep; *path* is as errors spell it."""

    call: str
    path: str
    field: FieldDescriptor

    @property
    def is_text(self) -> bool:
        """Whether it is a text, or bytes: what an id may be."""
        return self.field.type in _STRINGS

    @property
    def is_nested(self) -> bool:
        """Whether it is a message of the contract, whose fields are told on their own."""
        return _is_nested(self.field)

    @property
    def owner(self) -> str:
        """The message and the field: `SubmitTaskRequest.project`."""
        message = cast("Descriptor", self.field.containing_type)
        return f"{message.name}.{self.field.name}"


def input_fields(call: str) -> list[InputField]:
    """Return every field of the call's request, outer ones first."""
    return list(_fields(call, CALLS[call].input_type.fields, ""))


def _fields(call: str, fields: "Any", prefix: str) -> Iterator[InputField]:  # noqa: ANN401  # the container of descriptors has no public type
    for field in cast("list[FieldDescriptor]", fields):
        path = f"{prefix}{field.name}"
        yield InputField(call, path, field)
        if _is_nested(field):
            inside = f"{path}[0]." if field.is_repeated else f"{path}."
            yield from _fields(call, message_of(field).fields, inside)


def message_of(field: FieldDescriptor) -> Descriptor:
    """Return what a field of a message's type holds."""
    return cast("Descriptor", field.message_type)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_nested(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is not None and message.full_name.startswith(_PACKAGE) and not is_map(field)


def request_of(call: str, *, task_id: str) -> Message:
    """Return a request that nothing is wrong with, about the caller's own task."""
    return _least(GetMessageClass(CALLS[call].input_type)(), task_id)


def _least(message: Message, task_id: str) -> Message:
    name = message.DESCRIPTOR.name
    for field, value in _LEAST.get(name, {}).items():
        setattr(message, field, value.format(task_id=task_id))
    if (choice := _CHOICES.get(name)) is not None:
        _inner(message, choice, task_id)
    return message


def _inner(message: Message, name: str, task_id: str) -> Message:
    """Return the message in that field, made with what it needs at least if it is not there."""
    field = message.DESCRIPTOR.fields_by_name[name]
    held = getattr(message, name)
    if field.is_repeated:
        return held[0] if held else _least(held.add(), task_id)
    if not message.HasField(name):
        held.SetInParent()
        _least(held, task_id)
    return held


def owner_of(message: Message, path: str, *, task_id: str) -> tuple[Message, str]:
    """Return the message that has the field at the path, and the field's name."""
    *way, last = re.sub(r"\[0\]", "", path).split(".")
    for name in way:
        message = _inner(message, name, task_id)
    return message, last


def put(message: Message, path: str, value: object, *, task_id: str = "") -> None:
    """Set the field at the path; what stands on the way is made. None: clear it."""
    holder, name = owner_of(message, path, task_id=task_id)
    if value is None:
        holder.ClearField(name)
        return
    field = holder.DESCRIPTOR.fields_by_name[name]
    if is_map(cast("FieldDescriptor", field)):
        getattr(holder, name).clear()
        getattr(holder, name).update(value)
    elif field.is_repeated:
        del getattr(holder, name)[:]
        getattr(holder, name).extend([value] if isinstance(value, str) else value)
    elif isinstance(value, Message):
        getattr(holder, name).CopyFrom(value)
    else:
        setattr(holder, name, value)


def least_of(field: FieldDescriptor) -> Message:
    """Return a message of the field's type that nothing is wrong with."""
    return _least(GetMessageClass(message_of(field))(), "")


async def own_task(client: Client, call: str, *, project: str = "") -> str:
    """Return a task of the caller's own that the call can be about: final, or to be cancelled."""
    request = cast("Any", request_of("TaskService/SubmitTask", task_id=""))
    request.project = project
    task_id = await client.submit(request)
    if call != "TaskService/CancelTask":
        cancel = CancelTaskRequest(task_id=task_id)
        await client.tasks.CancelTask(cancel, metadata=client.metadata)
    return task_id


async def answer(client: Client, call: str, request: Message) -> bytes:
    """Make the call; return the bytes of its answer, or of the first one of a stream."""
    content = request.SerializeToString()
    if CALLS[call].server_streaming:
        return cast("bytes", await client.raw_stream(call, content))
    return await client.raw(call, content)


def refused_in(response: Message) -> tuple[StatusCode, str] | None:
    """Return how the one submission of a batch was refused; None: none was."""
    if isinstance(response, SubmitTasksResponse):
        for result in response.results:
            if result.HasField("refusal"):
                number = result.refusal.code
                code = next(code for code in StatusCode if code.value[0] == number)
                return code, result.refusal.reason
    return None
