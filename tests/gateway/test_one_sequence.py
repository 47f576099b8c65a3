"""Watchers by SSE, Connect, WebSocket and gRPC see the same facts of a task, in the same order."""

import asyncio

from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_service_pb2 import WatchTaskRequest, WatchTaskResponse
from tests.gateway.rooms.test_task_rooms import facts
from tests.gateway.test_connect import STREAM_PROTO, TASKS, envelope, envelopes
from tests.gateway.test_events import path_of, sent
from tests.support.controls import events as grpc_events
from tests.support.gateways import RunningGateway
from tests.support.room_clients import present
from tests.support.work import succeeded, tossed

#: What every watcher can say of a fact: epoch, sequence, name.
Told = tuple[str, int, str]
TOSSED = 20
FACTS = 1 + 2 * TOSSED + 2


def told(event: TaskEvent) -> Told:
    return event.epoch, event.sequence, str(event.WhichOneof("event"))


async def by_grpc(gateway: RunningGateway, task_id: str) -> list[Told]:
    client = gateway.plane.client
    call = client.tasks.WatchTask(WatchTaskRequest(task_id=task_id), metadata=client.metadata)
    return [told(event) for event in await grpc_events(call)]


async def by_connect(gateway: RunningGateway, task_id: str) -> list[Told]:
    asked = envelope(WatchTaskRequest(task_id=task_id).SerializeToString())
    path = f"{TASKS}/WatchTask"
    async with gateway.http.stream("POST", path, content=asked, headers=STREAM_PROTO) as answer:
        return [
            told(WatchTaskResponse.FromString(content).event)
            async for flags, content in envelopes(answer)
            if not flags
        ]


async def by_sse(gateway: RunningGateway, task_id: str) -> list[Told]:
    async with gateway.http.stream("GET", path_of(task_id)) as answer:
        return [
            (each.fields["epoch"], each.fields["sequence"], each.name)
            async for each in sent(answer)
        ]


async def by_websocket(gateway: RunningGateway, task_id: str) -> list[Told]:
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        return [
            (each["epoch"], each["sequence"], each["data"]["event"]) for each in await facts(client)
        ]


async def test_all_watchers_of_a_task_see_one_sequence(gateway: RunningGateway) -> None:
    """Some come before the task begins, others in its midst, and none misses anything."""
    watchers = (by_grpc, by_connect, by_sse, by_websocket)
    task_id = await gateway.submit("ping")
    early = [asyncio.create_task(watch(gateway, task_id)) for watch in watchers]
    await tossed(gateway.plane.cell, task_id, times=TOSSED)
    late = [asyncio.create_task(watch(gateway, task_id)) for watch in watchers]
    await succeeded(gateway.plane.cell, task_id)
    first, *others = await asyncio.gather(*early, *late)
    assert [sequence for _, sequence, _ in first] == list(range(1, FACTS + 1))
    assert others == [first] * 7
