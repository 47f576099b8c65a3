"""Keys, roles and projects: every call of the contract, asked by everybody who may not."""

from typing import cast
from uuid import uuid4

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from callsheet.v1 import access_service_pb2, operations_service_pb2, task_service_pb2
from callsheet.v1.operations_service_pb2 import ReplayDeliveriesRequest
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from tests.support.controls import Client, Plane, Told, ping_request, refusal

TASKS = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"]
OPERATIONS = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]
ACCESS = access_service_pb2.DESCRIPTOR.services_by_name["AccessService"]
METHODS = {
    method.full_name: method
    for service in (TASKS, OPERATIONS, ACCESS)
    for method in service.methods
}

#: The role that each call needs, as the contract's comments say.
ROLES = {
    "SubmitTask": "submit",
    "SubmitTasks": "submit",
    "GetTask": "read",
    "ListTasks": "read",
    "WaitTask": "read",
    "WatchTask": "read",
    "WatchTasks": "read",
    "ListTaskEvents": "read",
    "CancelTask": "submit",
    "RetryTask": "submit",
    "ListQueues": "operate",
    "ListWorkers": "operate",
    "ListDeliveries": "operate",
    "ReplayDeliveries": "operate",
    "PauseQueue": "operate",
    "ResumeQueue": "operate",
    "PauseWorker": "operate",
    "ResumeWorker": "operate",
    "DrainWorker": "operate",
    "GetPerformance": "operate",
    "ListLogReaders": "operate",
}
#: Calls that take a key of any role.
ROLELESS = {"GetPrincipal", "CreateTicket", "RenewTicket", "RevokeTicket"}


def _with_role() -> list[MethodDescriptor]:
    return [method for method in METHODS.values() if method.name not in ROLELESS]


def _with_field(service: str, field: str) -> list[MethodDescriptor]:
    return [
        method
        for method in METHODS.values()
        if method.containing_service.name == service and field in method.input_type.fields_by_name
    ]


def _name(method: MethodDescriptor) -> str:
    return method.name


def _request(method: MethodDescriptor, **fields: str) -> bytes:
    """Return a request that nothing else is wrong with."""
    request = GetMessageClass(method.input_type)(**fields)
    if isinstance(request, SubmitTaskRequest):
        request.MergeFrom(ping_request())
    if isinstance(request, SubmitTasksRequest):
        request.requests.append(ping_request())
    if isinstance(request, ReplayDeliveriesRequest):
        request.filter.SetInParent()
    for name, value in {"queue": "system", "worker_id": "nobody"}.items():
        if name in method.input_type.fields_by_name:
            setattr(request, name, value)
    if "task_id" in method.input_type.fields_by_name and not fields:
        request = GetMessageClass(method.input_type)(task_id=str(uuid4()))
    return cast("Message", request).SerializeToString()


async def _refused(client: Client, method: MethodDescriptor, content: bytes) -> Told:
    name = f"{method.containing_service.name}/{method.name}"
    if method.server_streaming:
        return await refusal(client.raw_stream(name, content))
    return await refusal(client.raw(name, content))


def test_every_call_has_a_role() -> None:
    """A new call without a row here fails."""
    assert {method.name for method in METHODS.values()} == set(ROLES) | ROLELESS


@pytest.mark.parametrize("method", METHODS.values(), ids=_name)
async def test_a_call_without_a_key_is_unauthenticated(
    plane: Plane, method: MethodDescriptor
) -> None:
    nobody = Client(plane.client.channel, "")
    told = await _refused(nobody, method, _request(method))
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "KEY_MISSING")


@pytest.mark.parametrize("method", METHODS.values(), ids=_name)
async def test_a_call_with_an_unknown_key_is_unauthenticated(
    plane: Plane, method: MethodDescriptor
) -> None:
    stranger = Client(plane.client.channel, "cs_00000000_" + "A" * 43)
    told = await _refused(stranger, method, _request(method))
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "KEY_INVALID")


@pytest.mark.parametrize("method", _with_role(), ids=_name)
async def test_a_call_without_its_role_is_denied(plane: Plane, method: MethodDescriptor) -> None:
    needed = ROLES[method.name]
    others = frozenset({"submit", "read", "operate"} - {needed})
    client = await plane.newcomer(projects=frozenset({"default"}), roles=others)
    before = await plane.written()
    told = await _refused(client, method, _request(method))
    assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    assert told.metadata == {"role": needed}
    assert await plane.written() == before


@pytest.mark.parametrize("method", _with_field("TaskService", "task_id"), ids=_name)
async def test_another_project_s_task_is_as_unknown_as_none(
    plane: Plane, method: MethodDescriptor
) -> None:
    theirs = await plane.client.submit()
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    before = await plane.written()
    foreign = await _refused(stranger, method, _request(method, task_id=theirs))
    assert (foreign.code, foreign.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    unknown_id = str(uuid4())
    unknown = await _refused(stranger, method, _request(method, task_id=unknown_id))
    assert unknown.message.replace(unknown_id, theirs) == foreign.message
    assert (unknown.code, unknown.reason) == (foreign.code, foreign.reason)
    assert await plane.written() == before


@pytest.mark.parametrize("method", _with_field("TaskService", "project"), ids=_name)
async def test_another_project_cannot_be_named(plane: Plane, method: MethodDescriptor) -> None:
    before = await plane.written()
    told = await _refused(plane.client, method, _request(method, project="elsewhere"))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
    assert await plane.written() == before


async def test_the_same_request_id_in_two_projects_is_two_tasks(plane: Plane) -> None:
    other = await plane.newcomer(projects=frozenset({"elsewhere"}))
    request = ping_request(request_id="r-1")
    assert await plane.client.submit(request) != await other.submit(request)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Bearer {key}"),),
        (("authorization", "bearer {key}"),),
        (("x-api-key", "{key}"),),
        (("x-api-key", "cs_wrong"), ("authorization", "Bearer {key}")),
    ],
    ids=["authorization", "small letters", "x-api-key", "both"],
)
async def test_a_key_may_come_in_either_header(
    plane: Plane, metadata: tuple[tuple[str, str], ...]
) -> None:
    key = plane.client.key
    sent = tuple((name, value.format(key=key)) for name, value in metadata)
    await plane.client.tasks.SubmitTask(ping_request(), metadata=sent)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic {key}"),),
        (("authorization", "{key}"),),
        (("authorization", ""),),
        (("x-api-key", ""),),
    ],
    ids=["another scheme", "no scheme", "nothing", "an empty key"],
)
async def test_what_is_no_key_counts_as_none(
    plane: Plane, metadata: tuple[tuple[str, str], ...]
) -> None:
    key = plane.client.key
    sent = tuple((name, value.format(key=key)) for name, value in metadata)
    told = await refusal(plane.client.tasks.SubmitTask(ping_request(), metadata=sent))
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "KEY_MISSING")


@pytest.mark.parametrize("key", ["cs_x", "x" * 5000, "cs_00000000_" + "ß" * 3])
async def test_a_malformed_key_is_invalid(plane: Plane, key: str) -> None:
    sent = (("x-api-key", key.encode("ascii", "replace").decode()),)
    told = await refusal(plane.client.tasks.SubmitTask(ping_request(), metadata=sent))
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "KEY_INVALID")
