"""One task of the fake plane: its facts and signals, and what they fold to."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client.errors import Unavailable
from callsheet.client.states import is_final, is_signal
from callsheet.client.task_types import task_type_of
from callsheet.client.testing.log import Entry, FakeLog
from callsheet.client.watch import EVENT_VERSION
from callsheet.v1 import task_event_pb2, task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message

    from callsheet.v1 import task_spec_pb2

_WORKER: Final = "fake-worker"
_DEVICE: Final = "cpu"


class FakeTask:
    """A task that takes the steps of a script."""

    def __init__(
        self,
        request: task_service_pb2.SubmitTaskRequest,
        *,
        project: str,
        epoch: str,
        log: FakeLog,
        trace_parent: str = "",
        retry_of: str = "",
    ) -> None:
        task_type = task_type_of(request.spec)
        if task_type is None:
            raise ValueError("the spec has no input")
        self._output_class = task_type.output_class
        self._reuse_mode = request.reuse.mode
        policy = task_type.policy
        self.task = task_pb2.Task(
            id=str(uuid.uuid4()),
            project=project,
            spec=request.spec,
            task_type=task_type.name,
            state=task_pb2.TASK_STATE_PENDING,
            epoch=epoch,
            max_attempts=policy.max_attempts,
            queue=policy.queue,
            priority=request.priority if request.HasField("priority") else policy.priority,
            metadata=request.metadata,
            callback=request.callback if request.HasField("callback") else None,
            trace_parent=trace_parent,
            retry_of=retry_of,
        )
        self.log: list[task_event_pb2.TaskEvent] = []
        self._plane_log = log
        self._told_state = self.task.state
        self._changed = asyncio.Event()
        self._cuts = 0
        self._record_submission(request)

    def snapshot(self) -> task_pb2.Task:
        """Return a copy of the task as it is now."""
        copy = task_pb2.Task()
        copy.CopyFrom(self.task)
        return copy

    def start_attempt(self) -> None:
        """Record that a worker started an attempt."""
        self.task.attempt += 1
        self.task.state = task_pb2.TASK_STATE_RUNNING
        self.task.worker = _WORKER
        started = task_event_pb2.AttemptStarted(
            attempt=self.task.attempt, worker=_WORKER, device=_DEVICE
        )
        event = self._fact(task_event_pb2.TaskEvent(attempt_started=started))
        self.task.start_time.CopyFrom(event.time)

    def report(self, progress: task_pb2.Progress) -> None:
        """Record a signal of progress."""
        event = task_event_pb2.TaskEvent(progress=progress, time=_now())
        event.progress.update_time.CopyFrom(event.time)
        self.task.progress.CopyFrom(event.progress)
        self._append(event)

    def fail_attempt(self, failure: task_pb2.Failure) -> None:
        """Record that the attempt failed, and that another one follows."""
        self.task.state = task_pb2.TASK_STATE_PENDING
        failed = task_event_pb2.AttemptFailed(attempt=self.task.attempt, failure=failure)
        event = self._fact(task_event_pb2.TaskEvent(attempt_failed=failed))
        self.task.ended_attempts.add(
            attempt=self.task.attempt, failure=failure, end_time=event.time
        )

    def succeed(self, output: Message | None = None) -> None:
        """Record the output, an empty one for None. Final."""
        self.task.output.Pack(self._output_class() if output is None else output)
        succeeded = task_event_pb2.TaskSucceeded(
            attempt=self.task.attempt, output=self.task.output, usage=self.task.usage
        )
        self._end(task_pb2.TASK_STATE_SUCCEEDED, task_event_pb2.TaskEvent(task_succeeded=succeeded))

    def offers(self, spec: task_spec_pb2.TaskSpec, *, joins: bool) -> bool:
        """Tell whether the task may answer an equal submission."""
        if self._reuse_mode == task_service_pb2.REUSE_MODE_UNSPECIFIED or self.task.spec != spec:
            return False
        if self.task.state == task_pb2.TASK_STATE_SUCCEEDED:
            return not self.task.reused_from
        can_join = self._reuse_mode == task_service_pb2.REUSE_MODE_RESULT_OR_JOIN
        return joins and can_join and not is_final(self.task) and not self.task.cancel_requested

    def reuse(self, source: task_pb2.Task) -> None:
        """Record that the output of another task is this one's. Final."""
        self.task.output.CopyFrom(source.output)
        self.task.reused_from = source.id
        succeeded = task_event_pb2.TaskSucceeded(output=source.output, reused_from=source.id)
        self._end(task_pb2.TASK_STATE_SUCCEEDED, task_event_pb2.TaskEvent(task_succeeded=succeeded))

    def fail(self, failure: task_pb2.Failure) -> None:
        """Record the failure. Final."""
        self.task.failure.CopyFrom(failure)
        failed = task_event_pb2.TaskFailed(attempt=self.task.attempt, failure=failure)
        self._end(task_pb2.TASK_STATE_FAILED, task_event_pb2.TaskEvent(task_failed=failed))

    def request_cancel(self, reason: str) -> None:
        """Record that the task was asked to stop."""
        self.task.cancel_requested = True
        self.task.cancel_reason = reason
        requested = task_event_pb2.CancelRequested(reason=reason)
        self._fact(task_event_pb2.TaskEvent(cancel_requested=requested))

    def cancel(self, reason: str) -> None:
        """Record that the task was stopped. Final."""
        self.task.cancel_requested = True
        self.task.cancel_reason = reason
        cancelled = task_event_pb2.TaskCancelled(reason=reason)
        self._end(task_pb2.TASK_STATE_CANCELLED, task_event_pb2.TaskEvent(task_cancelled=cancelled))

    async def ended(self) -> None:
        """Return when the task is final."""
        while not is_final(self.task):
            await self._changed.wait()

    async def events(self, *, after_sequence: int) -> AsyncIterator[task_event_pb2.TaskEvent]:
        """Yield the facts after a sequence, the latest signal, and what comes, to the final fact.

        Raises Unavailable when the stream is cut.
        """
        position, cuts = len(self.log), self._cuts
        for event in self._past(after_sequence):
            yield event
        while not (is_final(self.task) and position == len(self.log)):
            while position < len(self.log):
                yield self.log[position]
                position += 1
            if not is_final(self.task):
                await self._changed.wait()
            if cuts != self._cuts:
                raise Unavailable("the stream was cut")

    def cut_streams(self) -> None:
        """Break all streams of this task that are open now."""
        self._cuts += 1
        self._wake()

    def change_epoch(self, epoch: str) -> None:
        """Belong to another epoch from now on."""
        self.task.epoch = epoch

    def facts(self, *, after_sequence: int) -> list[task_event_pb2.TaskEvent]:
        """Return the facts after a sequence, oldest first."""
        facts = (event for event in self.log if not is_signal(event))
        return [event for event in facts if event.sequence > after_sequence]

    def _past(self, after_sequence: int) -> list[task_event_pb2.TaskEvent]:
        past = self.facts(after_sequence=after_sequence)
        if self.log and is_signal(self.log[-1]):
            past.append(self.log[-1])
        return past

    def _record_submission(self, request: task_service_pb2.SubmitTaskRequest) -> None:
        submitted = task_event_pb2.TaskSubmitted(
            project=self.task.project,
            spec=self.task.spec,
            queue=self.task.queue,
            priority=self.task.priority,
            max_attempts=self.task.max_attempts,
            delay=request.delay if request.HasField("delay") else None,
            expire_after=request.expire_after if request.HasField("expire_after") else None,
            callback=request.callback if request.HasField("callback") else None,
            metadata=request.metadata,
            trace_parent=self.task.trace_parent,
            retry_of=self.task.retry_of,
        )
        event = self._fact(task_event_pb2.TaskEvent(task_submitted=submitted))
        self.task.create_time.CopyFrom(event.time)

    def _end(self, state: task_pb2.TaskState.ValueType, event: task_event_pb2.TaskEvent) -> None:
        self.task.state = state
        self.task.end_time.CopyFrom(self._fact(event).time)

    def _fact(self, event: task_event_pb2.TaskEvent) -> task_event_pb2.TaskEvent:
        event.time.CopyFrom(_now())
        self.task.sequence += 1
        self.task.update_time.CopyFrom(event.time)
        self._append(event)
        return event

    def _append(self, event: task_event_pb2.TaskEvent) -> None:
        event.version = EVENT_VERSION
        event.task_id = self.task.id
        event.epoch = self.task.epoch
        event.sequence = self.task.sequence
        self.log.append(event)
        states = self._told_state, self.task.state
        self._told_state = self.task.state
        self._plane_log.append(Entry(event, self.task.task_type, states))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _now() -> Timestamp:
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return timestamp
