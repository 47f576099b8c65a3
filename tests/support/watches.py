"""Watches of many tasks, as tests read them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    WatchTasksRequest,
    WatchTasksResponse,
)
from tests.support.controls import PATIENCE, Client

#: What a watch told of a fact: which task, which sequence, what happened.
Told = tuple[str, int, str | None]


class Watch:
    """A stream of WatchTasks, read as far as a test wants."""

    def __init__(self, client: Client, **wanted: object) -> None:
        request = WatchTasksRequest(**wanted)  # pyright: ignore[reportArgumentType]  # the message checks its values at run time
        self._call = client.tasks.WatchTasks(request, metadata=client.metadata, timeout=PATIENCE)
        self.snapshot: list[str] = []
        self.has_more = False
        self.cursor = request.cursor

    async def begun(self) -> "Watch":
        """Read to the end of the snapshot."""
        while True:
            response = await self.next()
            if response.HasField("snapshot_end"):
                self.has_more = response.snapshot_end.has_more
                return self
            self.snapshot.append(response.snapshot.id)

    async def next(self) -> WatchTasksResponse:
        """Return the next response."""
        response = await self._call.read()
        assert isinstance(response, WatchTasksResponse), "the watch has ended"
        self.cursor = response.cursor or self.cursor
        return response

    async def facts(self, count: int) -> list[Told]:
        """Return the next facts, without the signals between them."""
        told: list[Told] = []
        while len(told) < count:
            response = await self.next()
            event = response.event
            if response.HasField("event") and not event.HasField("progress"):
                told.append((event.task_id, event.sequence, event.WhichOneof("event")))
        return told

    def cancel(self) -> None:
        """Leave."""
        self._call.cancel()


@asynccontextmanager
async def watching(client: Client, **wanted: object) -> AsyncGenerator[Watch]:
    """A watch whose snapshot has been read, or that goes on from a cursor."""
    watch = Watch(client, **wanted)
    try:
        yield watch if wanted.get("cursor") else await watch.begun()
    finally:
        watch.cancel()


async def cancelled(client: Client, task_id: str) -> None:
    """Have a task stopped, or asked to stop."""
    request = CancelTaskRequest(task_id=task_id)
    await client.tasks.CancelTask(request, metadata=client.metadata)


def whole(task_id: str) -> list[Told]:
    """Return all there is to tell of a ping that succeeded."""
    return [
        (task_id, 1, "task_submitted"),
        (task_id, 2, "attempt_started"),
        (task_id, 3, "task_succeeded"),
    ]
