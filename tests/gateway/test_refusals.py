"""REST, Connect and gRPC refuse the same things, for the same reasons, by the same fields."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc import StatusCode

from callsheet.client.errors import ERROR_CLASSES
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.problems import STATUSES
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    RetryTaskRequest,
    SubmitTaskRequest,
)
from tests.control.test_bad_input import BAD_SUBMISSIONS
from tests.gateway.test_connect import JSON, TASKS, detail
from tests.support.alive import gpu_worker, heard
from tests.support.controls import Told, image_request, refusal
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.work import succeeded

#: Nothing here changes what another test sees, so one gateway is enough for all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What a REST body cannot even say: there the submission is whole by its shape.
UNSAYABLE = {"no spec", "a spec without an arm", "an empty callback"}

FIELDS = {
    "project": "project_id",
    "callback.url": "callback_url",
    "delay": "delay_seconds",
    "expire_after": "expire_after_seconds",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """The gateway of all tests here."""
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway_plane(valkey_server.url, "refusals", folder) as running:
        yield running


@dataclass(frozen=True)
class Refusal:
    """What any API tells of a refused request."""

    status: int
    reason: str
    fields: tuple[str, ...]


def of_grpc(told: Told) -> Refusal:
    """Return gRPC's refusal in REST's words."""
    status = STATUSES[ERROR_CLASSES[told.code]]
    return Refusal(status, told.reason, tuple(map(rest_field, told.fields)))


def rest_field(path: str) -> str:
    """Return the field of `POST /api/v1/tasks/submit` that a field of the contract is."""
    for arm in ("ping", "generate_image"):
        path = path.replace(f"spec.{arm}", "task_data")
    return FIELDS.get(path, path)


def rest_body(request: SubmitTaskRequest) -> dict[str, Any]:
    """Return the REST body that asks for the same."""
    arm = request.spec.WhichOneof("input") or "ping"
    spec = getattr(request.spec, arm)
    task_data = MessageToDict(spec, preserving_proto_field_name=True)
    body: dict[str, Any] = {"task_type": arm, "task_data": task_data}
    if request.project:
        body["project_id"] = request.project
    if request.request_id:
        body["request_id"] = request.request_id
    if request.HasField("priority"):
        body["priority"] = request.priority
    if request.HasField("delay"):
        body["delay_seconds"] = request.delay.seconds
    if request.HasField("expire_after"):
        body["expire_after_seconds"] = request.expire_after.seconds
    if request.HasField("callback"):
        body["callback_url"] = request.callback.url
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    return body


@pytest.mark.parametrize("name", sorted(set(BAD_SUBMISSIONS) - UNSAYABLE))
async def test_a_bad_submission_is_refused_alike(gateway: RunningGateway, name: str) -> None:
    make, _ = BAD_SUBMISSIONS[name]
    client = gateway.plane.client
    before = await gateway.plane.written()
    wanted = of_grpc(await refusal(client.tasks.SubmitTask(make(), metadata=client.metadata)))
    answer = await gateway.http.post("/api/v1/tasks/submit", json=rest_body(make()))
    problem = answer.json()
    fields = tuple(each["field"] for each in problem["violations"])
    got = Refusal(answer.status_code, problem["reason"], fields)
    # An enum's number is no word of JSON, so REST says it by the same field one step earlier.
    assert got == wanted
    body = make().SerializeToString()
    headers = {"content-type": "application/proto"}
    answer = await gateway.http.post(f"{TASKS}/SubmitTask", content=body, headers=headers)
    about, request = detail(answer.json(), ErrorInfo()), detail(answer.json(), BadRequest())
    assert isinstance(about, ErrorInfo)
    assert isinstance(request, BadRequest)
    paths = tuple(rest_field(each.field) for each in request.field_violations)
    assert Refusal(answer.status_code, about.reason, paths) == wanted
    assert await gateway.plane.written() == before


async def test_what_no_worker_has_the_memory_for_is_refused_alike(gateway: RunningGateway) -> None:
    client, registry = gateway.plane.client, gateway.plane.cell.registry
    await heard(registry, gpu_worker("small", 1.5))
    request = image_request(width=2048, height=2048)
    wanted = of_grpc(await refusal(client.submit(request)))
    answer = await gateway.http.post("/api/v1/tasks/submit", json=rest_body(request))
    problem = answer.json()
    fields = tuple(each["field"] for each in problem["violations"])
    assert Refusal(answer.status_code, problem["reason"], fields) == wanted
    assert wanted == Refusal(409, "MEMORY_INSUFFICIENT", ("task_data.width", "task_data.height"))
    assert problem["detail"].startswith("task_data.width: model tiny-random needs 1.7 GB")
    await registry.forget_worker("small")


async def test_what_is_refused_of_a_task_is_refused_alike(gateway: RunningGateway) -> None:
    ended = await gateway.submit()
    await succeeded(gateway.plane.cell, ended)
    client = gateway.plane.client
    nobody = "00000000-0000-4000-8000-000000000000"
    cases = {
        "GetTask": (GetTaskRequest(task_id=nobody), "GET", f"/api/v1/tasks/{nobody}"),
        "CancelTask": (CancelTaskRequest(task_id=ended), "POST", f"/api/v1/tasks/{ended}/cancel"),
        "RetryTask": (RetryTaskRequest(task_id=ended), "POST", f"/api/v1/tasks/{ended}/retry"),
        "ListTasks": (ListTasksRequest(task_type="tea"), "GET", "/api/v1/tasks?task_type=tea"),
    }
    for method, (request, verb, path) in cases.items():
        call = getattr(client.tasks, method)(request, metadata=client.metadata)
        wanted = of_grpc(await refusal(call))
        answer = await gateway.http.request(verb, path)
        fields = tuple(each["field"] for each in answer.json()["violations"])
        assert Refusal(answer.status_code, answer.json()["reason"], fields) == wanted
        body = json.dumps(MessageToDict(request))
        answer = await gateway.http.post(f"{TASKS}/{method}", content=body, headers=JSON)
        about = detail(answer.json(), ErrorInfo())
        assert isinstance(about, ErrorInfo)
        assert about.reason == wanted.reason


@pytest.mark.parametrize("roles", [frozenset({"read"}), frozenset({"operate"})], ids=sorted)
async def test_a_missing_role_is_refused_alike(
    gateway: RunningGateway, roles: frozenset[str]
) -> None:
    key = await gateway.new_key(roles=roles)
    request = SubmitTaskRequest()
    request.spec.ping.SetInParent()
    metadata = (("x-api-key", key),)
    told = await refusal(gateway.plane.client.tasks.SubmitTask(request, metadata=metadata))
    assert told.code is StatusCode.PERMISSION_DENIED
    async with gateway.client(key) as http:
        answer = await http.post("/api/v1/tasks/submit", json={"task_type": "ping"})
    assert Refusal(answer.status_code, answer.json()["reason"], ()) == of_grpc(told)
