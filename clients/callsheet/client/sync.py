"""The client for code without asyncio: the asynchronous one, run on a background thread."""

from __future__ import annotations

from copy import copy as copy_of
from typing import TYPE_CHECKING, TypeAlias, overload

from google.protobuf.message import Message

from callsheet.client.aio import AsyncTaskClient
from callsheet.client.errors import CallError
from callsheet.client.handle import Output, TaskHandle
from callsheet.client.limits import DEFAULT_OUTAGE, DEFAULT_TIMEOUT, DEFAULT_WAIT
from callsheet.client.loop_thread import LoopThread
from callsheet.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from datetime import timedelta
    from types import TracebackType
    from typing import Self, Unpack

    import grpc

    from callsheet.client.access import RoleWord
    from callsheet.client.operations import DeliveryOptions, WindowWord
    from callsheet.client.retry import BackoffPolicy
    from callsheet.client.submission import Submission, SubmitOptions
    from callsheet.client.watch_many import WatchFilter
    from callsheet.v1 import (
        access_service_pb2,
        operations_service_pb2,
        task_event_pb2,
        task_service_pb2,
    )

#: What became of one submission of many: its handle, or why it was refused.
Submitted: TypeAlias = TaskHandle[Message] | CallError


class TaskClient:
    """Talks to one control plane; safe for any number of threads.

    ``with TaskClient("127.0.0.1:50051", key=key) as client: …``

    Every method is the one of AsyncTaskClient, run on one background loop.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str,
        project: str = "",
        tls: grpc.ChannelCredentials | None = None,
        timeout: timedelta = DEFAULT_TIMEOUT,
        outage_timeout: timedelta = DEFAULT_OUTAGE,
        backoff: BackoffPolicy | None = None,
    ) -> None:
        self._client = AsyncTaskClient(
            address,
            key=key,
            project=project,
            tls=tls,
            timeout=timeout,
            outage_timeout=outage_timeout,
            backoff=backoff,
        )
        self._loop = LoopThread("callsheet-client")
        self._shared = False

    def with_key(self, key: str, *, project: str | None = None) -> TaskClient:
        """Return a client that calls with another key, or a ticket, over the same channel."""
        copy = copy_of(self)
        copy._client = self._client.with_key(key, project=project)  # noqa: SLF001  # its own kind
        copy._shared = True  # noqa: SLF001  # its own kind
        return copy

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end the background thread. Closing twice is no error."""
        if not self._shared and not self._loop.stopped:
            self._loop.run(self._client.close())
            self._loop.stop()

    @overload
    def submit(
        self,
        input: Message,
        *,
        output: type[Output],
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle[Output]: ...
    @overload
    def submit(
        self,
        input: Message,
        *,
        output: None = None,
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle[Message]: ...
    def submit(
        self,
        input: Message,
        *,
        output: type[Message] | None = None,
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle[Message]:
        """Submit one task and return its handle; when this returns, the task is durable."""
        submitting = self._client.submit(
            input, output=output or Message, trace_parent=trace_parent, **options
        )
        return TaskHandle(self._loop.run(submitting), self._loop)

    def submit_many(
        self, submissions: Sequence[Submission | Message], *, trace_parent: str | None = None
    ) -> list[Submitted]:
        """Submit any number of tasks; return each one's handle, or why it was refused, in order."""
        submitted = self._loop.run(self._client.submit_many(submissions, trace_parent=trace_parent))
        return [
            each if isinstance(each, CallError) else TaskHandle(each, self._loop)
            for each in submitted
        ]

    @overload
    def handle(self, task_id: str, *, output: type[Output]) -> TaskHandle[Output]: ...
    @overload
    def handle(self, task_id: str, *, output: None = None) -> TaskHandle[Message]: ...
    def handle(self, task_id: str, *, output: type[Message] | None = None) -> TaskHandle[Message]:
        """Return a handle of a task submitted before; nothing is asked yet."""
        return TaskHandle(self._client.handle(task_id, output=output or Message), self._loop)

    def get(self, task_id: str) -> task_pb2.Task:
        """Return the task as it is now."""
        return self._loop.run(self._client.get(task_id))

    def list(
        self,
        *,
        project: str | None = None,
        state: task_pb2.TaskState.ValueType = task_pb2.TASK_STATE_UNSPECIFIED,
        task_type: str = "",
        page_size: int = 0,
    ) -> Generator[task_pb2.Task, None, None]:
        """Yield a project's tasks, newest first, reading page after page as they are asked for."""
        return self._loop.iterate(
            self._client.list(
                project=project, state=state, task_type=task_type, page_size=page_size
            )
        )

    def wait(self, task_id: str, *, timeout: timedelta = DEFAULT_WAIT) -> task_pb2.Task:
        """Return the final task."""
        return self._loop.run(self._client.wait(task_id, timeout=timeout))

    def watch(
        self,
        task_id: str,
        *,
        after_sequence: int = 0,
        epoch: str = "",
        timeout: timedelta = DEFAULT_WAIT,
    ) -> Generator[task_event_pb2.TaskEvent, None, None]:
        """Yield every fact after a sequence once and in order, and signals, to the final fact."""
        return self._loop.iterate(
            self._client.watch(task_id, after_sequence=after_sequence, epoch=epoch, timeout=timeout)
        )

    def watch_tasks(
        self,
        *,
        cursor: str = "",
        snapshot_size: int | None = None,
        timeout: timedelta | None = None,
        **wanted: Unpack[WatchFilter],
    ) -> Generator[task_service_pb2.WatchTasksResponse, None, None]:
        """Yield what happens to the tasks of a project that fit: those there are, then facts."""
        return self._loop.iterate(
            self._client.watch_tasks(
                cursor=cursor, snapshot_size=snapshot_size, timeout=timeout, **wanted
            )
        )

    def cancel(self, task_id: str, *, reason: str = "") -> task_pb2.Task:
        """Ask a task to stop and return it."""
        return self._loop.run(self._client.cancel(task_id, reason=reason))

    @overload
    def retry(
        self, task_id: str, *, output: type[Output], request_id: str | None = None
    ) -> TaskHandle[Output]: ...
    @overload
    def retry(
        self, task_id: str, *, output: None = None, request_id: str | None = None
    ) -> TaskHandle[Message]: ...
    def retry(
        self, task_id: str, *, output: type[Message] | None = None, request_id: str | None = None
    ) -> TaskHandle[Message]:
        """Submit a new task with the spec of one that failed or was cancelled."""
        retrying = self._client.retry(task_id, output=output or Message, request_id=request_id)
        return TaskHandle(self._loop.run(retrying), self._loop)

    def principal(self) -> access_service_pb2.Principal:
        """Return whom the client's key or ticket stands for."""
        return self._loop.run(self._client.principal())

    def create_ticket(
        self,
        *,
        time_to_live: timedelta | None = None,
        roles: Iterable[RoleWord] = (),
        projects: Iterable[str] = (),
        renewable_for: timedelta | None = None,
    ) -> access_service_pb2.CreateTicketResponse:
        """Return a new ticket: it is sent like a key, and allows a part of what the key does."""
        making = self._client.create_ticket(
            time_to_live=time_to_live, roles=roles, projects=projects, renewable_for=renewable_for
        )
        return self._loop.run(making)

    def renew_ticket(
        self, *, time_to_live: timedelta | None = None
    ) -> access_service_pb2.RenewTicketResponse:
        """Return a ticket like the one the client calls with, good from now on."""
        return self._loop.run(self._client.renew_ticket(time_to_live=time_to_live))

    def revoke_ticket(self) -> None:
        """Give up the ticket the client calls with, and all that share its renewals."""
        self._loop.run(self._client.revoke_ticket())

    def queues(self) -> Sequence[operations_service_pb2.Queue]:
        """Return the queues of all task types, by name."""
        return self._loop.run(self._client.queues())

    def workers(self) -> Sequence[operations_service_pb2.Worker]:
        """Return the live workers, by id."""
        return self._loop.run(self._client.workers())

    def pause_queue(self, queue: str) -> operations_service_pb2.Queue:
        """Let no worker claim tasks of a queue any more; return the queue."""
        return self._loop.run(self._client.pause_queue(queue))

    def resume_queue(self, queue: str) -> operations_service_pb2.Queue:
        """Let workers claim tasks of a queue again; return the queue."""
        return self._loop.run(self._client.resume_queue(queue))

    def pause_worker(self, worker_id: str) -> operations_service_pb2.Worker:
        """Ask a worker to claim no more tasks; return it as it was last heard of."""
        return self._loop.run(self._client.pause_worker(worker_id))

    def resume_worker(self, worker_id: str) -> operations_service_pb2.Worker:
        """Ask a worker to claim tasks again; return it as it was last heard of."""
        return self._loop.run(self._client.resume_worker(worker_id))

    def drain_worker(self, worker_id: str) -> operations_service_pb2.Worker:
        """Ask a worker to let what it runs end, and then to end itself; return it as last heard."""
        return self._loop.run(self._client.drain_worker(worker_id))

    def performance(
        self, *, window: WindowWord = "hour", project: str = ""
    ) -> operations_service_pb2.GetPerformanceResponse:
        """Return how tasks fared of late, by task type and by queue, in total and over time."""
        return self._loop.run(self._client.performance(window=window, project=project))

    def log_readers(self, *, task_id: str = "") -> Sequence[operations_service_pb2.LogReader]:
        """Return the durable readers of the log, by name; how far they are with a task, too."""
        return self._loop.run(self._client.log_readers(task_id=task_id))

    def deliveries(self, task_id: str) -> Sequence[operations_service_pb2.Delivery]:
        """Return the webhook deliveries of a task, oldest first."""
        return self._loop.run(self._client.deliveries(task_id))

    def list_deliveries(
        self, *, task_id: str = "", **wanted: Unpack[DeliveryOptions]
    ) -> Generator[operations_service_pb2.Delivery, None, None]:
        """Yield deliveries of a project, newest first, or of a task, oldest first, page by page."""
        return self._loop.iterate(self._client.list_deliveries(task_id=task_id, **wanted))

    def replay_deliveries(
        self,
        *,
        delivery_id: str = "",
        task_id: str = "",
        from_sequence: int = 0,
        limit: int | None = None,
        **wanted: Unpack[DeliveryOptions],
    ) -> int:
        """Have deliveries made once more, under the same webhook-id; return how many will be."""
        replaying = self._client.replay_deliveries(
            delivery_id=delivery_id,
            task_id=task_id,
            from_sequence=from_sequence,
            limit=limit,
            **wanted,
        )
        return self._loop.run(replaying)
