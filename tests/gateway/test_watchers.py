"""Whoever watches a task, by whatever way, sees the same facts in the same order."""

import asyncio

from callsheet.v1.task_service_pb2 import WatchTaskRequest, WatchTaskResponse
from tests.gateway.test_connect import STREAM_PROTO, TASKS, envelope, envelopes
from tests.gateway.test_events import sent
from tests.support.controls import events as grpc_events
from tests.support.gateways import PATIENCE, RunningGateway
from tests.support.room_clients import present
from tests.support.work import succeeded, tossed

#: Sequence and name of each fact of a task.
Story = list[tuple[int, str | None]]


async def by_grpc(gateway: RunningGateway, task_id: str, ready: asyncio.Event) -> Story:
    client = gateway.plane.client
    call = client.tasks.WatchTask(WatchTaskRequest(task_id=task_id), metadata=client.metadata)
    ready.set()
    return [(each.sequence, each.WhichOneof("event")) for each in await grpc_events(call)]


async def by_sse(gateway: RunningGateway, task_id: str, ready: asyncio.Event) -> Story:
    async with gateway.http.stream("GET", f"/api/v1/tasks/{task_id}/events") as answer:
        ready.set()
        return [(each.fields["sequence"], each.name) async for each in sent(answer)]


async def by_connect(gateway: RunningGateway, task_id: str, ready: asyncio.Event) -> Story:
    content = envelope(WatchTaskRequest(task_id=task_id).SerializeToString())
    path = f"{TASKS}/WatchTask"
    async with gateway.http.stream("POST", path, content=content, headers=STREAM_PROTO) as answer:
        ready.set()
        told = [content async for flags, content in envelopes(answer) if not flags]
    found = [WatchTaskResponse.FromString(content).event for content in told]
    return [(each.sequence, each.WhichOneof("event")) for each in found]


async def by_websocket(gateway: RunningGateway, task_id: str, ready: asyncio.Event) -> Story:
    story: Story = []
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        ready.set()
        while (heard := await client.hear())["type"] != "LEFT":
            if "sequence" in heard:
                story.append((heard["sequence"], heard["data"]["event"]))
    return story


async def test_every_watcher_of_a_task_sees_the_same_sequence(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    ways = (by_grpc, by_sse, by_connect, by_websocket)
    ready = [asyncio.Event() for _ in ways]
    async with asyncio.timeout(PATIENCE):
        watching = [
            asyncio.create_task(way(gateway, task_id, there))
            for way, there in zip(ways, ready, strict=True)
        ]
        for there in ready:
            await there.wait()
        await tossed(gateway.plane.cell, task_id, times=3)
        await succeeded(gateway.plane.cell, task_id)
        stories = await asyncio.gather(*watching)
    assert [sequence for sequence, _ in stories[0]] == list(range(1, 10))
    assert stories == [stories[0]] * len(ways)
