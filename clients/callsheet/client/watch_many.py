"""Watching many tasks for as long as one likes, across broken streams and restarted servers."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from callsheet.client.errors import CallError, DeadlineExceeded, Unavailable, Unimplemented
from callsheet.client.retry import Deadline, Outage
from callsheet.client.watch import EVENT_VERSION, STREAM_LIMIT, WAS_UP
from callsheet.v1 import task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import timedelta

    from callsheet.client.connection import Connection
    from callsheet.v1 import task_pb2

#: What ended a stream that nobody wanted to end.
_ENDED: Final = "the stream ended, though nobody had asked for its end"


class WatchFilter(TypedDict, total=False):
    """Which tasks are watched; what is left out means any."""

    #: The project. Left out: the client's, or the key's only one.
    project: str
    #: Tasks in one of these states; the fact by which one leaves them is still told.
    states: Sequence[task_pb2.TaskState.ValueType]
    #: Tasks of these types.
    task_types: Sequence[str]
    #: These tasks.
    task_ids: Sequence[str]


@dataclass(frozen=True)
class WatchMany:
    """One watch of many tasks."""

    connection: Connection
    #: What is asked for; its cursor moves on with what was told.
    request: task_service_pb2.WatchTasksRequest
    #: How long the watch may last. None: until it is left.
    timeout: timedelta | None
    #: How long the plane may be away without a break.
    outage_timeout: timedelta
    trace_parent: str

    async def responses(self) -> AsyncGenerator[task_service_pb2.WatchTasksResponse, None]:
        """Yield what the plane tells; ends with the timeout, or never.

        Raises DataLoss when what follows the cursor is not kept any more, Unavailable when the
        plane is away for longer than the outage timeout, and any other CallError at once.
        """
        deadline = None if self.timeout is None else Deadline(self.timeout)
        outage = Outage(limit=self.outage_timeout, backoff=self.connection.new_backoff())
        while deadline is None or not deadline.passed():
            up = Deadline(WAS_UP)
            error: CallError = Unavailable(_ENDED)
            try:
                async with aclosing(self._stream(deadline)) as responses:
                    async for response in responses:
                        outage.over()
                        self._note(response)
                        yield response
            except CallError as failed:
                error = failed
            is_over = deadline is not None and deadline.passed()
            if up.passed():
                outage.over()
            if isinstance(error, DeadlineExceeded) and (is_over or up.passed()):
                continue  # the stream is renewed, or the watch is over
            await outage.bear(error, until=deadline or Deadline(STREAM_LIMIT))

    def _note(self, response: task_service_pb2.WatchTasksResponse) -> None:
        if response.HasField("event") and response.event.version != EVENT_VERSION:
            raise Unimplemented(
                f"this client does not know version {response.event.version} of TaskEvent",
                reason="VERSION_UNKNOWN",
            )
        if response.cursor:
            self.request.cursor = response.cursor

    def _stream(
        self, deadline: Deadline | None
    ) -> AsyncGenerator[task_service_pb2.WatchTasksResponse, None]:
        left = STREAM_LIMIT if deadline is None else min(deadline.remaining(), STREAM_LIMIT)
        return self.connection.stream(
            self.connection.tasks.WatchTasks,
            self.request,
            timeout=left,
            trace_parent=self.trace_parent,
        )
