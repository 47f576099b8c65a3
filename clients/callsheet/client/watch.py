"""Watching one task to its end, across broken streams and restarted servers."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client.errors import (
    CallError,
    DataLoss,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)
from callsheet.client.retry import Deadline, Outage
from callsheet.client.states import is_final, is_final_event, is_signal
from callsheet.v1 import task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from callsheet.client.connection import Connection
    from callsheet.v1 import task_event_pb2, task_pb2

#: The version of TaskEvent that this client understands.
EVENT_VERSION: Final = 1

#: A stream is renewed after this time, so that one whose peer fell silent cannot last.
STREAM_LIMIT: Final = timedelta(minutes=10)
#: No attempt to connect lasts this long: a stream that did was up, even if it told nothing.
WAS_UP: Final = timedelta(seconds=15)


@dataclass
class WatchCursor:
    """A reader's place in one task's facts: it lets each pass once, in order, and no gap."""

    #: The sequence of the last fact seen. Zero: none.
    sequence: int = 0
    #: The epoch it was seen in. Empty: not known yet.
    epoch: str = ""
    _latest_signal: Timestamp = field(default_factory=Timestamp)

    def accept(self, event: task_event_pb2.TaskEvent) -> bool:
        """Return whether the event is news, and remember it.

        Raises DataLoss when the epoch changed or a fact is missing, Unimplemented for a version
        that this client does not know.
        """
        if event.version != EVENT_VERSION:
            raise Unimplemented(
                f"this client does not know version {event.version} of TaskEvent",
                reason="VERSION_UNKNOWN",
            )
        self.check_epoch(event.epoch)
        return self._is_new_signal(event) if is_signal(event) else self._is_new_fact(event)

    def check_epoch(self, epoch: str) -> None:
        """Remember the ledger's epoch. Raises DataLoss when it is not the one remembered."""
        if self.epoch and epoch != self.epoch:
            raise DataLoss(
                f"the ledger's epoch changed from {self.epoch} to {epoch}; read the task anew",
                reason="EPOCH_CHANGED",
            )
        self.epoch = epoch

    def _is_new_fact(self, event: task_event_pb2.TaskEvent) -> bool:
        if event.sequence <= self.sequence:
            return False
        if event.sequence > self.sequence + 1:
            raise DataLoss(
                f"task {event.task_id}: fact {self.sequence + 1} is missing, "
                f"fact {event.sequence} came instead",
                reason="SEQUENCE_GAP",
            )
        self.sequence = event.sequence
        return True

    def _is_new_signal(self, event: task_event_pb2.TaskEvent) -> bool:
        if not event.HasField("time"):
            return True
        latest = self._latest_signal
        if (event.time.seconds, event.time.nanos) <= (latest.seconds, latest.nanos):
            return False
        latest.CopyFrom(event.time)
        return True


@dataclass(frozen=True)
class Watch:
    """One watch of one task."""

    connection: Connection
    task_id: str
    cursor: WatchCursor
    #: How long the watch may last.
    timeout: timedelta
    #: How long the plane may be away without a break.
    outage_timeout: timedelta
    #: How long one call that reads the task may last.
    call_timeout: timedelta
    trace_parent: str

    async def events(self) -> AsyncGenerator[task_event_pb2.TaskEvent, None]:
        """Yield every fact after the cursor once and in order, and signals, to the final fact.

        Raises WaitTimeout when the timeout passes first, DataLoss when a fact is missing or the
        epoch changed, Unavailable when the plane is away for longer than the outage timeout, and
        any other CallError at once.
        """
        deadline = Deadline(self.timeout)
        outage = Outage(limit=self.outage_timeout, backoff=self.connection.new_backoff())
        while True:
            up = Deadline(WAS_UP)
            try:
                async with aclosing(self._stream(deadline)) as responses:
                    async for response in responses:
                        outage.over()
                        if self.cursor.accept(response.event):
                            yield response.event
                        if is_final_event(response.event):
                            return
                if await self._has_no_more():
                    return
                error: CallError = Unavailable("the stream ended before the task was final")
            except CallError as failed:
                error = failed
            if up.passed():
                outage.over()
            await outage.bear(error, until=deadline)
            if deadline.passed():
                raise WaitTimeout(self.task_id, timeout=self.timeout, task=None) from error

    def _stream(
        self, deadline: Deadline
    ) -> AsyncGenerator[task_service_pb2.WatchTaskResponse, None]:
        request = task_service_pb2.WatchTaskRequest(
            task_id=self.task_id, after_sequence=self.cursor.sequence, epoch=self.cursor.epoch
        )
        return self.connection.stream(
            self.connection.tasks.WatchTask,
            request,
            timeout=min(deadline.remaining(), STREAM_LIMIT),
            trace_parent=self.trace_parent,
        )

    async def _has_no_more(self) -> bool:
        """Return whether the stream ended because every fact of a final task had been seen."""
        task = await read_task(
            self.connection,
            self.task_id,
            timeout=self.call_timeout,
            trace_parent=self.trace_parent,
        )
        self.cursor.check_epoch(task.epoch)
        return is_final(task) and task.sequence <= self.cursor.sequence


async def read_task(
    connection: Connection, task_id: str, *, timeout: timedelta, trace_parent: str | None = None
) -> task_pb2.Task:
    """Return the task as it is now. Raises CallError."""
    response = await connection.call(
        connection.tasks.GetTask,
        task_service_pb2.GetTaskRequest(task_id=task_id),
        timeout=timeout,
        trace_parent=trace_parent,
    )
    return response.task
