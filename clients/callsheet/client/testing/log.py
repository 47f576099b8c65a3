"""Everything that happens on the fake plane, in one line: what those who watch many tasks read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from callsheet.client.errors import CallError, DataLoss, InvalidArgument, Unavailable, Violation
from callsheet.client.states import is_signal
from callsheet.v1 import task_event_pb2, task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

_SNAPSHOT_SIZE: Final = 200


class Entry(NamedTuple):
    """An event, the task's type, and the states before and after it."""

    event: task_event_pb2.TaskEvent
    task_type: str
    states: tuple[task_pb2.TaskState.ValueType, task_pb2.TaskState.ValueType]


class FakeLog:
    """The events of all tasks, oldest first."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._changed = asyncio.Event()
        self._cuts = 0

    def append(self, entry: Entry) -> None:
        """Add what happened."""
        self._entries.append(entry)
        self.wake()

    def cut_streams(self) -> None:
        """Break all streams that are open now."""
        self._cuts += 1
        self.wake()

    def wake(self) -> None:
        """Let the streams look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def responses(
        self,
        request: task_service_pb2.WatchTasksRequest,
        tasks: Iterable[task_pb2.Task],
        *,
        epoch: str,
    ) -> AsyncIterator[task_service_pb2.WatchTasksResponse]:
        """Yield the tasks that fit, newest first, and what happens to those that do, for ever.

        Raises InvalidArgument and DataLoss for what is no cursor of this epoch, and Unavailable
        when the stream is cut.
        """
        position, cuts = len(self._entries), self._cuts
        if request.cursor:
            position = self._position(request.cursor, epoch)
        else:
            for response in _snapshot(request, tasks, cursor=f"{epoch}:{position}"):
                yield response
        while True:
            while position < len(self._entries):
                entry = self._entries[position]
                position += 1
                if _fits(request, entry):
                    cursor = "" if is_signal(entry.event) else f"{epoch}:{position}"
                    yield task_service_pb2.WatchTasksResponse(event=entry.event, cursor=cursor)
            await self._changed.wait()
            if cuts != self._cuts:
                raise Unavailable("the stream was cut")

    def _position(self, cursor: str, epoch: str) -> int:
        remembered, _, place = cursor.partition(":")
        if not place.isdecimal():
            raise _cursor_invalid()
        if remembered != epoch or int(place) > len(self._entries):
            raise DataLoss(
                f"the ledger's epoch is {epoch}, not {remembered}", reason="EPOCH_CHANGED"
            )
        return int(place)


def _snapshot(
    request: task_service_pb2.WatchTasksRequest, tasks: Iterable[task_pb2.Task], *, cursor: str
) -> Iterator[task_service_pb2.WatchTasksResponse]:
    size = request.snapshot_size if request.HasField("snapshot_size") else _SNAPSHOT_SIZE
    found = [
        task
        for task in tasks
        if _is_named(request, task.id, task.task_type)
        and (not request.states or task.state in request.states)
    ]
    for task in found[:size]:
        yield task_service_pb2.WatchTasksResponse(snapshot=task)
    end = task_service_pb2.SnapshotEnd(has_more=len(found) > size)
    yield task_service_pb2.WatchTasksResponse(snapshot_end=end, cursor=cursor)


def _fits(request: task_service_pb2.WatchTasksRequest, entry: Entry) -> bool:
    wanted = set(request.states)
    is_in = not wanted or not wanted.isdisjoint(entry.states)
    return is_in and _is_named(request, entry.event.task_id, entry.task_type)


def _is_named(request: task_service_pb2.WatchTasksRequest, task_id: str, task_type: str) -> bool:
    return (not request.task_types or task_type in request.task_types) and (
        not request.task_ids or task_id in request.task_ids
    )


def _cursor_invalid() -> CallError:
    problem = "is not the cursor of a watch of many tasks"
    return InvalidArgument(
        f"cursor: {problem}", reason="FIELD_INVALID", violations=[Violation("cursor", problem)]
    )
