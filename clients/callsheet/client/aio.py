"""The client for asyncio: submits tasks and follows them to their end."""

from __future__ import annotations

from copy import copy as copy_of
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, overload

from google.protobuf.message import Message

from callsheet.client.access import AsyncAccess
from callsheet.client.batch import batches
from callsheet.client.connection import Channel, Connection
from callsheet.client.errors import CallError, FailedPrecondition, WaitTimeout
from callsheet.client.handle import AsyncTaskHandle, Output
from callsheet.client.limits import DEFAULT_OUTAGE, DEFAULT_TIMEOUT, DEFAULT_WAIT
from callsheet.client.operations import AsyncOperations
from callsheet.client.retry import Deadline, Outage, retrying
from callsheet.client.states import is_final
from callsheet.client.submission import (
    Submission,
    SubmitOptions,
    new_request_id,
    to_duration,
    to_request,
)
from callsheet.client.task_types import task_type_of
from callsheet.client.trace import checked_trace_parent
from callsheet.client.watch import Watch, WatchCursor, read_task
from callsheet.client.watch_many import WatchFilter, WatchMany
from callsheet.v1 import task_pb2, task_service_pb2, task_spec_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    import grpc

    from callsheet.client.retry import BackoffPolicy
    from callsheet.v1 import task_event_pb2

#: What became of one submission of many: its handle, or why it was refused.
Submitted: TypeAlias = AsyncTaskHandle[Message] | CallError

# One WaitTask asks for this long; shorter than proxies like to cut idle calls.
_WAIT_STEP: Final = timedelta(seconds=30)
# How much later than asked an answer of WaitTask may come before the call counts as lost.
_WAIT_GRACE: Final = timedelta(seconds=5)


class AsyncTaskClient(AsyncAccess, AsyncOperations):
    """Talks to one control plane; safe for any number of coroutines of one loop.

    ``async with AsyncTaskClient("127.0.0.1:50051", key=key) as client: …``

    Calls are repeated while they fail for reasons that pass, within ``timeout``; every submission
    carries a request_id, so that a repeated one is the same task.
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
        """Set up the client; it connects with its first call.

        ``address`` is host:port; ``project`` stands for submissions and lists that name none;
        without ``tls`` the connection is not encrypted; ``timeout`` bounds each call with all its
        tries; ``outage_timeout`` says how long the plane may be away during wait and watch.

        Raises ValueError for an empty address or a key that cannot be one.
        """
        connection = Connection(Channel(address, tls=tls), key=key, backoff=backoff)
        super().__init__(connection, project=project, timeout=timeout)
        self._outage_timeout = outage_timeout

    def with_key(self, key: str, *, project: str | None = None) -> AsyncTaskClient:
        """Return a client that calls with another key, or a ticket, over the same channel.

        It has this one's settings, and its project unless another is named. Closing it leaves the
        channel open; closing this one ends both.

        Raises ValueError for a key that cannot be one.
        """
        copy = copy_of(self)
        copy._connection = self._connection.with_key(key)  # noqa: SLF001  # its own kind
        copy._project = self._project if project is None else project  # noqa: SLF001  # its own kind
        return copy

    @property
    def connection(self) -> Connection:
        """The raw stubs, and how to call them; for those who pass on requests of others."""
        return self._connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Closing twice is no error."""
        await self._connection.close()

    @overload
    async def submit(
        self,
        input: Message,
        *,
        output: type[Output],
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncTaskHandle[Output]: ...
    @overload
    async def submit(
        self,
        input: Message,
        *,
        output: None = None,
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncTaskHandle[Message]: ...
    async def submit(
        self,
        input: Message,
        *,
        output: type[Message] | None = None,
        trace_parent: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncTaskHandle[Message]:
        """Submit one task and return its handle; when this returns, the task is durable.

        ``input`` is the input message of any task type, or a whole TaskSpec. ``output`` types
        the handle's result: it must be the task type's output message.

        Raises CallError; TypeError when a message does not fit the contract; ValueError for a
        ``trace_parent`` that is none.
        """
        request = to_request(input, options=options, project=self._project)
        _check_output(request.spec, output)
        response = await self._connection.call(
            self._connection.tasks.SubmitTask,
            request,
            timeout=self._timeout,
            trace_parent=trace_parent,
        )
        return AsyncTaskHandle(
            self, response.task, output_class=output or Message, outcome=response.outcome
        )

    async def submit_many(
        self, submissions: Sequence[Submission | Message], *, trace_parent: str | None = None
    ) -> list[Submitted]:
        """Submit any number of tasks; return each one's handle, or why it was refused, in order.

        Raises TypeError when a message is the input of no task type; then nothing was submitted.
        """
        requests = [self._batch_request(each) for each in submissions]
        trace = checked_trace_parent(trace_parent)
        submitted: list[Submitted] = []
        for batch in batches(requests):
            answers = await batch.submit(
                self._connection, timeout=self._timeout, trace_parent=trace
            )
            submitted += [
                answer
                if isinstance(answer, CallError)
                else AsyncTaskHandle(
                    self, answer.task, output_class=Message, outcome=answer.outcome
                )
                for answer in answers
            ]
        return submitted

    @overload
    def handle(self, task_id: str, *, output: type[Output]) -> AsyncTaskHandle[Output]: ...
    @overload
    def handle(self, task_id: str, *, output: None = None) -> AsyncTaskHandle[Message]: ...
    def handle(
        self, task_id: str, *, output: type[Message] | None = None
    ) -> AsyncTaskHandle[Message]:
        """Return a handle of a task submitted before; nothing is asked yet."""
        return AsyncTaskHandle(self, task_pb2.Task(id=task_id), output_class=output or Message)

    async def get(self, task_id: str) -> task_pb2.Task:
        """Return the task as it is now. Raises TaskNotFound, CallError."""
        return await read_task(self._connection, task_id, timeout=self._timeout)

    async def list(
        self,
        *,
        project: str | None = None,
        state: task_pb2.TaskState.ValueType = task_pb2.TASK_STATE_UNSPECIFIED,
        task_type: str = "",
        page_size: int = 0,
    ) -> AsyncGenerator[task_pb2.Task, None]:
        """Yield a project's tasks, newest first, reading page after page as they are asked for.

        Raises CallError.
        """
        request = task_service_pb2.ListTasksRequest(
            project=project or self._project,
            state=state,
            task_type=task_type,
            page_size=page_size,
        )
        while True:
            page = await self._connection.call(
                self._connection.tasks.ListTasks, request, timeout=self._timeout
            )
            for task in page.tasks:
                yield task
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def wait(self, task_id: str, *, timeout: timedelta = DEFAULT_WAIT) -> task_pb2.Task:
        """Return the final task.

        Raises WaitTimeout when it is not final in time, Unavailable when the plane is away for
        longer than the outage timeout, and any other CallError at once.
        """
        deadline = Deadline(timeout)
        outage = Outage(limit=self._outage_timeout, backoff=self._connection.new_backoff())
        task: task_pb2.Task | None = None
        while True:
            try:
                task = await self._wait_step(task_id, span=min(deadline.remaining(), _WAIT_STEP))
                outage.over()
            except CallError as error:
                await outage.bear(error, until=deadline)
            if task is not None and is_final(task):
                return task
            if deadline.passed():
                raise WaitTimeout(task_id, timeout=timeout, task=task)

    def watch(
        self,
        task_id: str,
        *,
        after_sequence: int = 0,
        epoch: str = "",
        timeout: timedelta = DEFAULT_WAIT,
        trace_parent: str | None = None,
    ) -> AsyncGenerator[task_event_pb2.TaskEvent, None]:
        """Yield every fact after a sequence once and in order, and signals, to the final fact.

        Broken streams are resumed. ``epoch`` is the one in which ``after_sequence`` was seen.

        Raises DataLoss when a fact is missing or the epoch changed, WaitTimeout, Unavailable when
        the plane is away for longer than the outage timeout, and any other CallError at once.
        """
        return Watch(
            connection=self._connection,
            task_id=task_id,
            cursor=WatchCursor(sequence=after_sequence, epoch=epoch),
            timeout=timeout,
            outage_timeout=self._outage_timeout,
            call_timeout=self._timeout,
            trace_parent=checked_trace_parent(trace_parent),
        ).events()

    def watch_tasks(
        self,
        *,
        cursor: str = "",
        snapshot_size: int | None = None,
        timeout: timedelta | None = None,
        trace_parent: str | None = None,
        **wanted: Unpack[WatchFilter],
    ) -> AsyncGenerator[task_service_pb2.WatchTasksResponse, None]:
        """Yield what happens to the tasks of a project that fit: first those there are, then facts.

        Each response has a snapshot, the snapshot's end, an event or nothing but a cursor. Facts
        come once and in the order of the log; of signals the newest. With the ``cursor`` of an
        earlier response it goes on behind it, without a snapshot. Broken streams are resumed; a
        snapshot that broke off begins anew. It ends with the ``timeout``; None: when it is left.

        Raises DataLoss when what follows the cursor is no longer kept or the epoch changed,
        Unavailable when the plane is away for longer than the outage timeout, and any other
        CallError at once.
        """
        request = task_service_pb2.WatchTasksRequest(
            project=wanted.get("project") or self._project,
            cursor=cursor,
            states=wanted.get("states", ()),
            task_types=wanted.get("task_types", ()),
            task_ids=wanted.get("task_ids", ()),
            snapshot_size=snapshot_size,
        )
        return WatchMany(
            connection=self._connection,
            request=request,
            timeout=timeout,
            outage_timeout=self._outage_timeout,
            trace_parent=checked_trace_parent(trace_parent),
        ).responses()

    async def cancel(self, task_id: str, *, reason: str = "") -> task_pb2.Task:
        """Ask a task to stop and return it.

        Raises FailedPrecondition when it is final, TaskNotFound, CallError.
        """
        request = task_service_pb2.CancelTaskRequest(task_id=task_id, reason=reason)
        trace_parent = checked_trace_parent(None)
        tries = 0

        async def attempt(remaining: timedelta) -> task_pb2.Task:
            nonlocal tries
            tries += 1
            try:
                response = await self._connection.once(
                    self._connection.tasks.CancelTask,
                    request,
                    timeout=remaining,
                    trace_parent=trace_parent,
                )
            except FailedPrecondition:
                # After a lost answer, the task may be final because this very call stopped it.
                task = await self.get(task_id) if tries > 1 else None
                if task is None or task.state != task_pb2.TASK_STATE_CANCELLED:
                    raise
                return task
            return response.task

        return await retrying(
            attempt, timeout=self._timeout, backoff=self._connection.new_backoff()
        )

    @overload
    async def retry(
        self, task_id: str, *, output: type[Output], request_id: str | None = None
    ) -> AsyncTaskHandle[Output]: ...
    @overload
    async def retry(
        self, task_id: str, *, output: None = None, request_id: str | None = None
    ) -> AsyncTaskHandle[Message]: ...
    async def retry(
        self, task_id: str, *, output: type[Message] | None = None, request_id: str | None = None
    ) -> AsyncTaskHandle[Message]:
        """Submit a new task with the spec of one that failed or was cancelled.

        Raises FailedPrecondition when it is in another state, TaskNotFound, CallError.
        """
        response = await self._connection.call(
            self._connection.tasks.RetryTask,
            task_service_pb2.RetryTaskRequest(
                task_id=task_id, request_id=request_id or new_request_id()
            ),
            timeout=self._timeout,
        )
        return AsyncTaskHandle(self, response.task, output_class=output or Message)

    async def _wait_step(self, task_id: str, *, span: timedelta) -> task_pb2.Task:
        response = await self._connection.once(
            self._connection.tasks.WaitTask,
            task_service_pb2.WaitTaskRequest(task_id=task_id, timeout=to_duration(span)),
            timeout=span + _WAIT_GRACE,
        )
        return response.task

    def _batch_request(
        self, submission: Submission | Message
    ) -> task_service_pb2.SubmitTaskRequest:
        if isinstance(submission, Message):
            submission = Submission(submission)
        return to_request(submission.input, options=submission.options, project=self._project)


def _check_output(spec: task_spec_pb2.TaskSpec, output: type[Message] | None) -> None:
    task_type = task_type_of(spec)
    if output is None or output is Message or task_type is None:
        return
    if output.DESCRIPTOR.full_name != task_type.policy.output_type:
        raise TypeError(
            f"the output of {task_type.name} is {task_type.policy.output_type}, "
            f"not {output.DESCRIPTOR.full_name}"
        )
