"""A submitted task in the caller's hand, for asyncio and for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import Message

from callsheet.client.errors import TaskCancelled, TaskFailed
from callsheet.client.limits import DEFAULT_WAIT
from callsheet.client.task_types import unpack
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import SUBMIT_OUTCOME_UNSPECIFIED, SubmitOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from datetime import timedelta

    from callsheet.client.aio import AsyncTaskClient
    from callsheet.client.loop_thread import LoopThread
    from callsheet.v1 import task_event_pb2

#: The output message of a handle's task type.
Output = TypeVar("Output", bound=Message)
_Output_co = TypeVar("_Output_co", bound=Message, covariant=True)


def output_of(task: task_pb2.Task, output_class: type[Output]) -> Output:
    """Return the output message of a final task.

    Raises TaskFailed, TaskCancelled, TypeError when the output is of another class, Unimplemented
    when its message is newer than this client, ValueError when the task is not final.
    """
    match task.state:
        case task_pb2.TASK_STATE_SUCCEEDED:
            output = unpack(task.output)
        case task_pb2.TASK_STATE_FAILED:
            raise TaskFailed(task)
        case task_pb2.TASK_STATE_CANCELLED:
            raise TaskCancelled(task)
        case _:
            raise ValueError(f"task {task.id} is not final")
    if not isinstance(output, output_class):
        raise TypeError(
            f"task {task.id} answered a {output.DESCRIPTOR.full_name}, "
            f"not a {output_class.DESCRIPTOR.full_name}"
        )
    return output


class AsyncTaskHandle(Generic[_Output_co]):
    """One task, with all that can be asked of it."""

    def __init__(
        self,
        client: AsyncTaskClient,
        task: task_pb2.Task,
        *,
        output_class: type[_Output_co],
        outcome: SubmitOutcome.ValueType = SUBMIT_OUTCOME_UNSPECIFIED,
    ) -> None:
        self._client = client
        self._task = task
        self._output_class = output_class
        self._outcome: SubmitOutcome.ValueType = outcome

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def task(self) -> task_pb2.Task:
        """The task as this handle saw it last; after ``submit_many`` only its first fields."""
        return self._task

    @property
    def outcome(self) -> SubmitOutcome.ValueType:
        """How the submission was answered; unspecified for a handle of a task submitted before."""
        return self._outcome

    async def get(self) -> task_pb2.Task:
        """Return the task as it is now. Raises CallError."""
        self._task = await self._client.get(self.id)
        return self._task

    async def wait(self, *, timeout: timedelta = DEFAULT_WAIT) -> task_pb2.Task:
        """Return the final task. Raises WaitTimeout, CallError."""
        self._task = await self._client.wait(self.id, timeout=timeout)
        return self._task

    async def result(self, *, timeout: timedelta = DEFAULT_WAIT) -> _Output_co:
        """Return the task's output message.

        Raises TaskFailed, TaskCancelled, WaitTimeout, CallError.
        """
        return output_of(await self.wait(timeout=timeout), self._output_class)

    def watch(
        self, *, after_sequence: int = 0, timeout: timedelta = DEFAULT_WAIT
    ) -> AsyncGenerator[task_event_pb2.TaskEvent, None]:
        """Yield every fact after a sequence once and in order, and signals, to the final fact.

        Broken streams are resumed. Raises DataLoss, WaitTimeout, CallError.
        """
        return self._client.watch(
            self.id, after_sequence=after_sequence, epoch=self._task.epoch, timeout=timeout
        )

    async def cancel(self, *, reason: str = "") -> task_pb2.Task:
        """Ask the task to stop and return it. Raises FailedPrecondition when it is final."""
        self._task = await self._client.cancel(self.id, reason=reason)
        return self._task

    async def retry(self) -> AsyncTaskHandle[_Output_co]:
        """Submit the task once more and return the new one.

        Raises FailedPrecondition unless it failed or was cancelled.
        """
        return await self._client.retry(self.id, output=self._output_class)


class TaskHandle(Generic[_Output_co]):
    """One task, with all that can be asked of it, for code without asyncio.

    Every method is the one of AsyncTaskHandle, run on the client's loop.
    """

    def __init__(self, handle: AsyncTaskHandle[_Output_co], loop: LoopThread) -> None:
        self._handle = handle
        self._loop = loop

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._handle.id

    @property
    def task(self) -> task_pb2.Task:
        """The task as this handle saw it last."""
        return self._handle.task

    @property
    def outcome(self) -> SubmitOutcome.ValueType:
        """How the submission was answered; unspecified for a handle of a task submitted before."""
        return self._handle.outcome

    def get(self) -> task_pb2.Task:
        """Return the task as it is now."""
        return self._loop.run(self._handle.get())

    def wait(self, *, timeout: timedelta = DEFAULT_WAIT) -> task_pb2.Task:
        """Return the final task."""
        return self._loop.run(self._handle.wait(timeout=timeout))

    def result(self, *, timeout: timedelta = DEFAULT_WAIT) -> _Output_co:
        """Return the task's output message."""
        return self._loop.run(self._handle.result(timeout=timeout))

    def watch(
        self, *, after_sequence: int = 0, timeout: timedelta = DEFAULT_WAIT
    ) -> Generator[task_event_pb2.TaskEvent, None, None]:
        """Yield every fact once and in order, and signals, to the final fact."""
        events = self._handle.watch(after_sequence=after_sequence, timeout=timeout)
        return self._loop.iterate(events)

    def cancel(self, *, reason: str = "") -> task_pb2.Task:
        """Ask the task to stop and return it."""
        return self._loop.run(self._handle.cancel(reason=reason))

    def retry(self) -> TaskHandle[_Output_co]:
        """Submit the task once more and return the new one."""
        return TaskHandle(self._loop.run(self._handle.retry()), self._loop)
