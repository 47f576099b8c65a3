"""Server-Sent Events: every fact once and in order, resumed by the id of the last one."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from callsheet.v1.task_service_pb2 import WatchTaskRequest
from tests.support.controls import events as grpc_events
from tests.support.controls import until
from tests.support.gateways import PATIENCE, RunningGateway
from tests.support.work import started, succeeded


@dataclass
class Sent:
    """One event as a browser reads it."""

    name: str
    id: str | None
    fields: dict[str, Any]


async def sent(answer: httpx.Response) -> AsyncGenerator[Sent]:
    """Yield the events of a stream."""
    lines: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
            continue
        if "data" in lines:
            yield Sent(lines["event"], lines.get("id"), json.loads(lines["data"]))
        lines = {}


def path_of(task_id: str) -> str:
    return f"/api/v1/tasks/{task_id}/events"


async def test_a_stream_tells_every_fact_in_order_and_ends_after_the_final_one(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit("ping", echo="x")
    async with gateway.http.stream("GET", path_of(task_id)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async with aclosing(sent(answer)) as stream:
            seen = [await anext(stream)]
            await succeeded(gateway.plane.cell, task_id)
            seen += [each async for each in stream]
    assert [each.name for each in seen] == ["task_submitted", "attempt_started", "task_succeeded"]
    assert [each.fields["sequence"] for each in seen] == [1, 2, 3]
    epoch = seen[0].fields["epoch"]
    assert [each.id for each in seen] == [f"{epoch}:{number}" for number in (1, 2, 3)]


async def test_a_reader_goes_on_behind_the_last_event_it_saw(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    await succeeded(gateway.plane.cell, task_id)
    whole = [each async for each in sent(await gateway.http.get(path_of(task_id)))]
    assert len(whole) == 3
    headers = {"last-event-id": str(whole[0].id)}
    rest = [each async for each in sent(await gateway.http.get(path_of(task_id), headers=headers))]
    assert rest == whole[1:]
    # And who has seen the final fact is told not to come again
    headers = {"last-event-id": str(whole[-1].id)}
    assert (await gateway.http.get(path_of(task_id), headers=headers)).status_code == 204


async def test_the_stream_says_what_grpc_says(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    await succeeded(gateway.plane.cell, task_id)
    client = gateway.plane.client
    call = client.tasks.WatchTask(WatchTaskRequest(task_id=task_id), metadata=client.metadata)
    told = [(each.sequence, each.WhichOneof("event")) for each in await grpc_events(call)]
    whole = [each async for each in sent(await gateway.http.get(path_of(task_id)))]
    assert [(each.fields["sequence"], each.name) for each in whole] == told


@pytest.mark.parametrize(
    ("seen", "status", "reason"),
    [
        ("another:1", 410, "EPOCH_CHANGED"),
        ("7", 400, "SEQUENCE_AHEAD"),
        ("x:y:1\N{SNOWMAN}", 400, "FIELD_INVALID"),
        ("-1", 400, "FIELD_INVALID"),
        ("9" * 20, 400, "FIELD_INVALID"),
    ],
)
async def test_a_place_that_is_not_in_the_log_is_refused(
    gateway: RunningGateway, seen: str, status: int, reason: str
) -> None:
    task_id = await gateway.submit()
    headers = {"last-event-id": seen.encode("utf-8")}
    answer = await gateway.http.get(path_of(task_id), headers=headers)  # pyright: ignore[reportArgumentType]  # bytes are sent as they are
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


async def test_a_stream_ends_when_the_gateway_does(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    async with gateway.http.stream("GET", path_of(task_id)) as answer:
        stream = sent(answer)
        await anext(stream)
        gateway.gateway.stopping.set()
        async with asyncio.timeout(PATIENCE):
            assert [each async for each in stream] == []


async def test_an_attempt_is_told_while_it_runs(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    async with gateway.http.stream("GET", path_of(task_id)) as answer:
        stream = sent(answer)
        await anext(stream)
        attempts, task = await started(gateway.plane.cell, task_id, worker="w-7")
        told = await anext(stream)
        assert told.fields["attempt_started"]["worker"] == "w-7"
        await attempts.hand_back(task, attempt=task.attempt, reason="tired")
        assert (await anext(stream)).name == "attempt_returned"


async def test_a_reader_that_leaves_ends_its_watch(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    hub = gateway.plane.control.hub
    async with gateway.http.stream("GET", path_of(task_id)) as answer:
        await anext(sent(answer))
        await until(lambda: hub.watchers == 1)
    await until(lambda: hub.watchers == 0)
