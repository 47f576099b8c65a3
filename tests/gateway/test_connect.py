"""Connect: what browsers speak, with the answers and the refusals of gRPC."""

import base64
import json
import struct
from collections.abc import AsyncGenerator
from typing import Any

import httpx
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from callsheet.gateway.connect import SERVICES
from callsheet.v1.task_service_pb2 import (
    GetTaskRequest,
    GetTaskResponse,
    ListTasksResponse,
    WatchTaskRequest,
    WatchTaskResponse,
)
from tests.support.gateways import RunningGateway
from tests.support.work import succeeded

TASKS = "/callsheet.v1.TaskService"
JSON = {"content-type": "application/json", "connect-protocol-version": "1"}
PROTO = {"content-type": "application/proto", "connect-protocol-version": "1"}
STREAM_JSON = {"content-type": "application/connect+json", "connect-protocol-version": "1"}
STREAM_PROTO = {"content-type": "application/connect+proto", "connect-protocol-version": "1"}


def envelope(content: bytes, flags: int = 0) -> bytes:
    """Return a message of a stream."""
    return struct.pack(">BI", flags, len(content)) + content


async def envelopes(answer: httpx.Response) -> AsyncGenerator[tuple[int, bytes]]:
    """Yield flags and content of each envelope of a stream."""
    buffer = b""
    async for chunk in answer.aiter_bytes():
        buffer += chunk
        while len(buffer) >= 5:
            flags, size = struct.unpack_from(">BI", buffer)
            if len(buffer) < 5 + size:
                break
            yield flags, buffer[5 : 5 + size]
            buffer = buffer[5 + size :]
    assert buffer == b""


def detail(error: dict[str, Any], message: Message) -> Message:
    """Return the detail of an error that is of that message's type."""
    for each in error["details"]:
        if each["type"] == message.DESCRIPTOR.full_name:
            message.ParseFromString(base64.b64decode(each["value"] + "=="))
            return message
    raise AssertionError(f"no {message.DESCRIPTOR.full_name} in {error}")


async def test_a_unary_call_is_answered_in_json_and_in_bytes(gateway: RunningGateway) -> None:
    answer = await gateway.http.post(
        f"{TASKS}/SubmitTask", json={"spec": {"ping": {"echo": "x"}}}, headers=JSON
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    task_id = answer.json()["task"]["id"]
    asked = GetTaskRequest(task_id=task_id).SerializeToString()
    answer = await gateway.http.post(f"{TASKS}/GetTask", content=asked, headers=PROTO)
    assert answer.headers["content-type"] == "application/proto"
    assert GetTaskResponse.FromString(answer.content).task.spec.ping.echo == "x"


async def test_a_call_without_side_effects_is_a_get_too(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    text = json.dumps({"taskId": task_id})
    for query in (
        {"encoding": "json", "message": text},
        {
            "encoding": "json",
            "message": base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
            "base64": "1",
            "connect": "v1",
        },
    ):
        answer = await gateway.http.get(f"{TASKS}/GetTask", params=query)
        assert answer.json()["task"]["id"] == task_id
    answer = await gateway.http.get(f"{TASKS}/ListTasks?encoding=proto&message=")
    assert len(ListTasksResponse.FromString(answer.content).tasks) == 1
    # And one that changes something is not
    assert (await gateway.http.get(f"{TASKS}/SubmitTask")).status_code == 405


async def test_a_stream_tells_every_fact_and_how_it_ended(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    await succeeded(gateway.plane.cell, task_id)
    asked = WatchTaskRequest(task_id=task_id)
    async with gateway.http.stream(
        "POST",
        f"{TASKS}/WatchTask",
        content=envelope(asked.SerializeToString()),
        headers=STREAM_PROTO,
    ) as answer:
        assert answer.headers["content-type"] == "application/connect+proto"
        told = [each async for each in envelopes(answer)]
    events = [WatchTaskResponse.FromString(content).event for flags, content in told if not flags]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert told[-1] == (2, b"{}")


async def test_one_stream_tells_of_many_tasks(gateway: RunningGateway) -> None:
    first = await gateway.submit("ping", echo="1")
    async with gateway.http.stream(
        "POST", f"{TASKS}/WatchTasks", content=envelope(b"{}"), headers=STREAM_JSON
    ) as answer:
        stream = envelopes(answer)
        told = json.loads((await anext(stream))[1])
        assert told["snapshot"]["id"] == first
        assert "snapshotEnd" in json.loads((await anext(stream))[1])
        second = await gateway.submit("ping", echo="2")
        event = json.loads((await anext(stream))[1])["event"]
        assert (event["taskId"], event["sequence"]) == (second, "1")
        # When the gateway ends, then the stream says so
        gateway.gateway.stopping.set()
        flags, content = [each async for each in stream][-1]
    assert flags == 2
    assert json.loads(content)["error"]["code"] == "unavailable"


async def test_a_refused_call_tells_code_reason_and_fields(gateway: RunningGateway) -> None:
    before = await gateway.plane.written()
    body = {"spec": {"generate_image": {"prompt": "", "width": 65}}}
    answer = await gateway.http.post(f"{TASKS}/SubmitTask", json=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    about = detail(answer.json(), ErrorInfo())
    assert isinstance(about, ErrorInfo)
    assert (about.reason, about.domain) == ("FIELD_INVALID", "callsheet.dev")
    request = detail(answer.json(), BadRequest())
    assert isinstance(request, BadRequest)
    assert [each.field for each in request.field_violations] == [
        "spec.generate_image.prompt",
        "spec.generate_image.width",
    ]
    assert await gateway.plane.written() == before


#: Calls of GetTask that are refused: body, header, status and code; None: no Connect at all.
BAD_CALLS: list[tuple[bytes, dict[str, str], int, str | None]] = [
    (b'{"taskid": "x"}', JSON, 400, "invalid_argument"),
    (b'{"taskId": 7}', JSON, 400, "invalid_argument"),
    (b"{", JSON, 400, "invalid_argument"),
    (b"[]", JSON, 400, "invalid_argument"),
    (b"\xff\xff", PROTO, 400, "invalid_argument"),
    (b"{}", {**JSON, "content-encoding": "gzip"}, 415, "unimplemented"),
    (b"{}", {"content-type": "text/plain"}, 415, None),
    (b"{}", STREAM_JSON, 415, None),
    (b"{}", {**JSON, "connect-protocol-version": "2"}, 400, "invalid_argument"),
    (b"{}", {**JSON, "connect-timeout-ms": "soon"}, 400, "invalid_argument"),
    (b" " * (5 * 2**20), JSON, 413, "resource_exhausted"),
]

#: Bodies of WatchTask that are refused, and the code at the end of the stream.
BAD_STREAMS = [
    (b"", "invalid_argument"),
    (envelope(b"{}") * 2, "invalid_argument"),
    (envelope(b"{}", flags=1), "invalid_argument"),
    (envelope(b"{}")[:4], "invalid_argument"),
    (b"\x00\xff\xff\xff\xff{}", "invalid_argument"),
    (envelope(b'{"taskId": "x"}'), "invalid_argument"),
    (envelope(b'{"taskId": "00000000-0000-4000-8000-000000000000"}'), "not_found"),
]


async def test_a_bad_call_is_refused(gateway: RunningGateway) -> None:
    for content, headers, status, code in BAD_CALLS:
        answer = await gateway.http.post(f"{TASKS}/GetTask", content=content, headers=headers)
        assert answer.status_code == status, (content[:20], headers)
        if code is not None:
            assert answer.json()["code"] == code


async def test_a_bad_stream_is_refused_at_its_end(gateway: RunningGateway) -> None:
    for content, code in BAD_STREAMS:
        answer = await gateway.http.post(f"{TASKS}/WatchTask", content=content, headers=STREAM_JSON)
        assert answer.status_code == 200
        told = [each async for each in envelopes(answer)]
        assert [flags for flags, _ in told] == [2]
        assert json.loads(told[0][1])["error"]["code"] == code, content


async def test_a_call_without_a_key_is_unauthenticated(gateway: RunningGateway) -> None:
    async with gateway.client() as nobody:
        answer = await nobody.post(f"{TASKS}/ListTasks", content=b"{}", headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        answer = await nobody.post(
            f"{TASKS}/WatchTasks", content=envelope(b"{}"), headers=STREAM_JSON
        )
        told = [each async for each in envelopes(answer)]
        assert json.loads(told[0][1])["error"]["code"] == "unauthenticated"


async def test_a_call_is_asked_for_its_key_before_its_codec(gateway: RunningGateway) -> None:
    headers = {"content-type": "text/plain"}
    for method, key in (("ListTasks", None), ("WatchTasks", None), ("WatchTasks", "cs_0_wrong")):
        async with gateway.client(key) as nobody:
            answer = await nobody.post(f"{TASKS}/{method}", content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    answer = await gateway.http.post(f"{TASKS}/WatchTasks", content=b"{}", headers=headers)
    assert answer.status_code == 415


async def test_a_time_limit_of_the_caller_is_kept(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    headers = {**STREAM_JSON, "connect-timeout-ms": "50"}
    content = envelope(json.dumps({"taskId": task_id, "afterSequence": "1"}).encode())
    answer = await gateway.http.post(f"{TASKS}/WatchTask", content=content, headers=headers)
    told = [each async for each in envelopes(answer)]
    assert json.loads(told[-1][1])["error"]["code"] == "deadline_exceeded"


async def test_every_method_of_the_contract_is_served(gateway: RunningGateway) -> None:
    async with gateway.client() as nobody:
        for service in SERVICES.values():
            for method in service.methods:
                headers = STREAM_JSON if method.server_streaming else JSON
                path = f"/{service.full_name}/{method.name}"
                answer = await nobody.post(path, content=b"", headers=headers)
                assert answer.status_code in {200, 401}, path
        assert (await nobody.post(f"{TASKS}/Nothing", headers=JSON)).status_code == 404
