"""Whatever is wrong with a request: a status, a reason and the field at fault; nothing written."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.gateways import PATIENCE, RunningGateway, running_gateway_plane

#: Nothing here changes anything, so one gateway is enough for all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBMIT = "/api/v1/tasks/submit"
JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """The gateway of all tests here."""
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway_plane(valkey_server.url, "bad-input", folder) as running:
        yield running


def told(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"tag:callsheet.dev,2026:{problem['reason']}"
    return answer.status_code, problem["reason"]


async def test_a_path_that_is_not_there_and_a_method_it_does_not_take(
    gateway: RunningGateway,
) -> None:
    assert told(await gateway.http.get("/api/v2/tasks")) == (404, "ROUTE_NOT_FOUND")
    assert told(await gateway.http.get("/api/v1/tasks/")) == (404, "ROUTE_NOT_FOUND")
    answer = await gateway.http.put(SUBMIT, json={})
    assert told(answer) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"
    answer = await gateway.http.request("TRACE", "/api/v1/tasks")
    assert answer.status_code == 405


MALFORMED = {
    "nothing": (b"", "line 1 column 1"),
    "broken off": (b'{"task_type": "ping"', "line 1 column 21"),
    "a comma too many": (b'{\n  "task_type": "ping",\n}', "line 3 column 1"),
    "single quotes": (b"{'task_type': 'ping'}", "line 1 column 2"),
    "not UTF-8": (b'{"task_type": "\xff"}', "byte 15"),
    "half a surrogate pair": (b'{"task_type": "\\ud800"}', "surrogate"),
    "a field twice": (b'{"task_type": "ping", "task_type": "ping"}', "'task_type' is given twice"),
    "not a number": (b'{"priority": NaN}', "NaN"),
    "a number without end": (b'{"priority": ' + b"9" * 5000 + b"}", "integer"),
    "nested without end": (b"[" * 100_000, "nested too deep"),
    "a list": (b"[]", "must be an object"),
    "a text": (b'"ping"', "must be an object"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_bad_json_is_refused_with_its_position(gateway: RunningGateway, name: str) -> None:
    content, where = MALFORMED[name]
    before = await gateway.plane.written()
    answer = await gateway.http.post(SUBMIT, content=content, headers=JSON)
    assert told(answer) == (400, "JSON_MALFORMED")
    assert where in answer.json()["detail"]
    assert await gateway.plane.written() == before


BAD_FIELDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown field": ({"tasktype": "ping"}, ["task_type", "tasktype"]),
    "no task type": ({"task_data": {}}, ["task_type"]),
    "a number as the task type": ({"task_type": 7}, ["task_type"]),
    "data that is a list": ({"task_type": "ping", "task_data": []}, ["task_data"]),
    "an unknown field of the data": (
        {"task_type": "ping", "task_data": {"ecko": "x"}},
        ["task_data.ecko"],
    ),
    "several fields of the wrong type": (
        {"task_type": "image_generation", "task_data": {"prompt": 1, "width": "wide", "seed": -1}},
        ["task_data.prompt", "task_data.width", "task_data.seed"],
    ),
    "a rule of the contract": (
        {"task_type": "image_generation", "task_data": {"prompt": "x", "width": 65}},
        ["task_data.width"],
    ),
    "a field that is required": (
        {"task_type": "image_generation", "task_data": {}},
        ["task_data.prompt"],
    ),
    "an unknown model": (
        {"task_type": "generate_image", "task_data": {"prompt": "x", "model": "sdxl"}},
        ["task_data.model"],
    ),
    "a word of an enum that is none": (
        {"task_type": "generate_image", "task_data": {"prompt": "x", "scheduler": "FAST"}},
        ["task_data.scheduler"],
    ),
    "a duration that is none": (
        {"task_type": "ping", "task_data": {"duration": "soon"}},
        ["task_data.duration"],
    ),
    "a malformed project": ({"task_type": "ping", "project_id": "a/b"}, ["project_id"]),
    "a callback by ftp": ({"task_type": "ping", "callback_url": "ftp://x/"}, ["callback_url"]),
    "a private callback": (
        {"task_type": "ping", "callback_url": "https://10.0.0.1/"},
        ["callback_url"],
    ),
    "an unknown event": (
        {"task_type": "ping", "callback_events": ["finished"]},
        ["callback_events"],
    ),
    "metadata that is no text": (
        {"task_type": "ping", "metadata": {"userId": 7}},
        ['metadata["userId"]'],
    ),
    "metadata over its limit": (
        {"task_type": "ping", "metadata": {"shot": "x" * 1025}},
        ['metadata["shot"]'],
    ),
    "a priority over its limit": ({"task_type": "ping", "priority": 10}, ["priority"]),
    "a priority that is a word": ({"task_type": "ping", "priority": "high"}, ["priority"]),
    "a delay over its limit": ({"task_type": "ping", "delay_seconds": 1e9}, ["delay_seconds"]),
    "a delay beyond time": ({"task_type": "ping", "delay_seconds": 1e300}, ["delay_seconds"]),
    "an expiry of no time": (
        {"task_type": "ping", "expire_after_seconds": 0},
        ["expire_after_seconds"],
    ),
    "a request id with a space": ({"task_type": "ping", "request_id": "a b"}, ["request_id"]),
    "an unknown reuse": ({"task_type": "ping", "reuse": "always"}, ["reuse"]),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_a_bad_field_is_refused_by_its_name(gateway: RunningGateway, name: str) -> None:
    body, fields = BAD_FIELDS[name]
    before = await gateway.plane.written()
    answer = await gateway.http.post(SUBMIT, json=body)
    assert answer.status_code == 400, answer.text
    assert told(answer)[1] in {"FIELD_INVALID", "MODEL_NOT_FOUND"}
    assert [each["field"] for each in answer.json()["violations"]] == fields
    assert await gateway.plane.written() == before


async def test_work_that_nobody_knows_and_work_that_this_build_cannot_do(
    gateway: RunningGateway,
) -> None:
    before = await gateway.plane.written()
    answer = await gateway.http.post(SUBMIT, json={"task_type": "make_coffee"})
    assert told(answer) == (400, "TASK_TYPE_UNKNOWN")
    assert "image_generation" in answer.json()["detail"]
    answer = await gateway.http.post(SUBMIT, json={"task_type": "youtube.process"})
    assert told(answer) == (501, "TASK_TYPE_UNAVAILABLE")
    assert await gateway.plane.written() == before


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=201",
        "page_size=x",
        "page_size=%C2%B2",
        "status=running",
        "state=DONE",
        "status=queued&state=PENDING",
        "pagesize=1",
        "page_token=nonsense",
        "page_size=1&page_size=2",
        "task_type=make_coffee",
        "project_id=a%2Fb",
    ],
)
async def test_a_bad_query_is_refused(gateway: RunningGateway, query: str) -> None:
    answer = await gateway.http.get(f"/api/v1/tasks?{query}")
    assert told(answer)[0] == 400
    assert len(answer.json()["violations"]) == 1


@pytest.mark.parametrize("task_id", ["x", "..%2f..", "%00", "0" * 36, "a" * 3000])
async def test_an_id_that_is_none_is_refused(gateway: RunningGateway, task_id: str) -> None:
    answer = await gateway.http.get(f"/api/v1/tasks/{task_id}")
    if answer.status_code == 404:
        assert told(answer) == (404, "ROUTE_NOT_FOUND")  # a slash makes it another path
    else:
        assert told(answer) == (400, "FIELD_INVALID")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"],
)
async def test_another_media_type_is_refused(gateway: RunningGateway, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await gateway.http.post(SUBMIT, content=b'{"task_type": "ping"}', headers=headers)
    assert told(answer) == (415, "MEDIA_TYPE_UNSUPPORTED")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip"])
async def test_a_compressed_body_is_refused_unread(gateway: RunningGateway, encoding: str) -> None:
    """So a bomb that unpacks to gigabytes is never unpacked."""
    headers = {**JSON, "content-encoding": encoding}
    answer = await gateway.http.post(SUBMIT, content=b"\x1f\x8b", headers=headers)
    assert told(answer) == (415, "ENCODING_UNSUPPORTED")


async def test_a_body_that_is_too_large_is_refused(gateway: RunningGateway) -> None:
    before = await gateway.plane.written()
    body = json.dumps({"task_type": "ping", "task_data": {"echo": "x" * 2**20}}).encode()

    async def in_pieces():  # noqa: ANN202  # httpx takes any iterator of bytes
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    for content in (body, in_pieces()):
        answer = await gateway.http.post(SUBMIT, content=content, headers=JSON)
        assert told(answer) == (413, "BODY_TOO_LARGE")
    assert await gateway.plane.written() == before


async def test_a_line_break_in_a_value_makes_no_header(gateway: RunningGateway) -> None:
    answer = await gateway.http.post(
        SUBMIT,
        json={"task_type": "ping\r\nset-cookie: callsheet_session=x"},
        headers={"origin": "https://a.example"},
    )
    assert told(answer) == (400, "TASK_TYPE_UNKNOWN")
    assert "set-cookie" not in answer.headers
    answer = await gateway.http.get("/api/v1/tasks/x%0d%0aset-cookie:%20a=b")
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers


async def test_a_trace_context_that_is_none_is_ignored(gateway: RunningGateway) -> None:
    for trace in ("nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        answer = await gateway.http.post(
            SUBMIT, json={"task_type": "ping"}, headers={"traceparent": trace}
        )
        assert answer.status_code == 202


@pytest.mark.parametrize(
    "head",
    [
        b"POST /api/background/ai/analyze-content?x=\xff HTTP/1.1\r\nhost: 127.0.0.1",
        b"POST /api/v1/session?\xff HTTP/1.1\r\nhost: 127.0.0.1",
        b"GET /api/v1/tasks?project_id=\xc3 HTTP/1.1\r\nhost: 127.0.0.1",
        b"GET /api/v1/tasks/\xff HTTP/1.1\r\nhost: 127.0.0.1",
        b"DELETE /api/v1/session HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://[",
    ],
)
async def test_raw_bytes_in_a_head_are_refused_and_no_defect(
    gateway: RunningGateway, head: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.server.port)
    body = json.dumps({"api_key": gateway.key}).encode()
    head += b"\r\nx-api-key: " + gateway.key.encode() + b"\r\ncontent-type: application/json"
    head += b"\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    assert answer.split()[1] in {b"400", b"403"}, answer
