"""The fake plane without its wire: what each call answers, and why it refuses."""

from __future__ import annotations

import asyncio
import base64
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from callsheet.client.errors import (
    AlreadyExists,
    CallError,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    TaskNotFound,
    Violation,
)
from callsheet.client.states import is_final, state_word
from callsheet.client.task_types import task_types
from callsheet.client.testing.log import FakeLog
from callsheet.client.testing.record import FakeTask
from callsheet.client.testing.script import Fail, Hold, ReportProgress, Step, Succeed
from callsheet.v1 import operations_service_pb2, task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from callsheet.v1 import task_event_pb2

# Named here, because a method of the plane is called list.
Queues: TypeAlias = list[operations_service_pb2.Queue]

_PAGE_SIZE: Final = 50
_RETRYABLE: Final = (task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED)


class Accepted(NamedTuple):
    """The task that answers a submission, and how it came to."""

    task: task_pb2.Task
    outcome: task_service_pb2.SubmitOutcome.ValueType


class FakePlane:
    """Tasks in memory, each running the script of its type."""

    def __init__(self, *, project: str) -> None:
        self.project = project
        self.epoch = "fake-1"
        self.tasks: dict[str, FakeTask] = {}
        self.scripts: dict[str, Sequence[Step]] = {}
        self.submissions: list[task_service_pb2.SubmitTaskRequest] = []
        self.queues = _idle_queues()
        self.workers: list[operations_service_pb2.Worker] = []
        self.deliveries: list[operations_service_pb2.Delivery] = []
        self.performance = operations_service_pb2.GetPerformanceResponse()
        self.log_readers: list[operations_service_pb2.LogReader] = []
        self.log = FakeLog()
        self._by_request: dict[str, tuple[bytes, FakeTask]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def submit(
        self, request: task_service_pb2.SubmitTaskRequest, *, trace_parent: str = ""
    ) -> Accepted:
        """Accept a task and start its script; answer the one of the same request_id.

        With reuse allowed, a task of a type with a cache_ttl and the very same spec answers,
        however old it is: this plane knows no models, and fills in no defaults.
        """
        if request.spec.WhichOneof("input") is None:
            raise field_invalid("spec.input", "exactly one field is required in oneof")
        self._check_project(request.project)
        content = request.SerializeToString(deterministic=True)
        known = self._known(request.request_id, content)
        if known is not None:
            return Accepted(known.snapshot(), task_service_pb2.SUBMIT_OUTCOME_REPEATED)
        self.submissions.append(request)
        equal = self._equal(request)
        if equal is not None and not is_final(equal.task):
            self._remember(request, content, equal)
            return Accepted(equal.snapshot(), task_service_pb2.SUBMIT_OUTCOME_JOINED)
        if equal is not None:
            record = self._new_task(request, content=content, trace_parent=trace_parent)
            record.reuse(equal.task)
            return Accepted(record.snapshot(), task_service_pb2.SUBMIT_OUTCOME_REUSED)
        task = self._accept(request, content=content, trace_parent=trace_parent)
        return Accepted(task, task_service_pb2.SUBMIT_OUTCOME_CREATED)

    def get(self, task_id: str) -> task_pb2.Task:
        """Answer a task as it is now."""
        return self.find(task_id).snapshot()

    def find(self, task_id: str) -> FakeTask:
        """Return a task's record. Raises TaskNotFound, InvalidArgument."""
        try:
            key = str(uuid.UUID(task_id))
        except ValueError:
            raise field_invalid("task_id", "value must be a valid UUID") from None
        if key not in self.tasks:
            raise TaskNotFound(
                f"there is no task {task_id}",
                reason="TASK_NOT_FOUND",
                metadata={"task_id": task_id},
            )
        return self.tasks[key]

    def list(
        self, request: task_service_pb2.ListTasksRequest
    ) -> task_service_pb2.ListTasksResponse:
        """Answer one page of a project's tasks, newest first."""
        self._check_project(request.project)
        if request.task_type and request.task_type not in task_types():
            raise field_invalid("task_type", f"there is no task type {request.task_type}")
        start = _read_token(request)
        size = request.page_size or _PAGE_SIZE
        found = [
            record.snapshot()
            for record in reversed(self.tasks.values())
            if request.state in (task_pb2.TASK_STATE_UNSPECIFIED, record.task.state)
            and request.task_type in ("", record.task.task_type)
        ]
        more = start + size < len(found)
        return task_service_pb2.ListTasksResponse(
            tasks=found[start : start + size],
            next_page_token=_write_token(request, start + size) if more else "",
        )

    async def wait(self, request: task_service_pb2.WaitTaskRequest) -> task_pb2.Task:
        """Answer a task when it is final, or the timeout has passed."""
        record = self.find(request.task_id)
        seconds = request.timeout.ToTimedelta().total_seconds()
        try:
            async with asyncio.timeout(seconds if request.HasField("timeout") else 30):
                await record.ended()
        except TimeoutError:
            pass
        return record.snapshot()

    def watch(
        self, request: task_service_pb2.WatchTaskRequest
    ) -> AsyncIterator[task_event_pb2.TaskEvent]:
        """Yield what happens to a task."""
        record = self.find(request.task_id)
        if request.epoch not in ("", record.task.epoch):
            raise DataLoss(
                f"the ledger's epoch is {record.task.epoch}, not {request.epoch}",
                reason="EPOCH_CHANGED",
            )
        _check_sequence(record, request.after_sequence)
        return record.events(after_sequence=request.after_sequence)

    def facts(
        self, request: task_service_pb2.ListTaskEventsRequest
    ) -> Sequence[task_event_pb2.TaskEvent]:
        """Return the facts of a task after a sequence."""
        record = self.find(request.task_id)
        _check_sequence(record, request.after_sequence)
        return record.facts(after_sequence=request.after_sequence)

    def watch_many(
        self, request: task_service_pb2.WatchTasksRequest
    ) -> AsyncIterator[task_service_pb2.WatchTasksResponse]:
        """Yield the tasks there are, and what happens to them and to new ones."""
        self._check_project(request.project)
        tasks = [record.snapshot() for record in reversed(self.tasks.values())]
        return self.log.responses(request, tasks, epoch=self.epoch)

    def cut_streams(self) -> None:
        """Break all streams that are open now."""
        self.log.cut_streams()
        for record in self.tasks.values():
            record.cut_streams()

    def cancel(self, request: task_service_pb2.CancelTaskRequest) -> task_pb2.Task:
        """Stop a task."""
        record = self.find(request.task_id)
        if is_final(record.task):
            raise _illegal(record, "cancel")
        self._running[record.task.id].cancel()
        if record.task.state == task_pb2.TASK_STATE_PENDING:
            record.cancel(request.reason)
            return record.snapshot()
        record.request_cancel(request.reason)
        requested = record.snapshot()
        record.cancel(request.reason)  # the worker agrees at once
        return requested

    def retry(
        self, request: task_service_pb2.RetryTaskRequest, *, trace_parent: str = ""
    ) -> task_pb2.Task:
        """Submit a new task with the spec of one that failed or was cancelled."""
        record = self.find(request.task_id)
        content = request.SerializeToString(deterministic=True)
        known = self._known(request.request_id, content)
        if known is not None:
            return known.snapshot()
        if record.task.state not in _RETRYABLE:
            raise _illegal(record, "retry")
        again = task_service_pb2.SubmitTaskRequest(
            request_id=request.request_id,
            spec=record.task.spec,
            priority=record.task.priority,
            callback=record.task.callback if record.task.HasField("callback") else None,
            metadata=record.task.metadata,
        )
        return self._accept(
            again, content=content, trace_parent=trace_parent, retry_of=record.task.id
        )

    def change_epoch(self, epoch: str) -> None:
        """Belong to another epoch, as a restored ledger does."""
        self.epoch = epoch
        for record in self.tasks.values():
            record.change_epoch(epoch)

    async def stop(self) -> None:
        """End all scripts where they are."""
        for running in self._running.values():
            running.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _accept(
        self,
        request: task_service_pb2.SubmitTaskRequest,
        *,
        content: bytes,
        trace_parent: str,
        retry_of: str = "",
    ) -> task_pb2.Task:
        task_type = request.spec.WhichOneof("input") or ""
        script = self.scripts.get(task_type, ())
        record = self._new_task(
            request, content=content, trace_parent=trace_parent, retry_of=retry_of
        )
        answer = record.snapshot()
        self._running[answer.id] = asyncio.create_task(_run(record, script))
        return answer

    def _new_task(
        self,
        request: task_service_pb2.SubmitTaskRequest,
        *,
        content: bytes,
        trace_parent: str,
        retry_of: str = "",
    ) -> FakeTask:
        record = FakeTask(
            request,
            project=self.project,
            epoch=self.epoch,
            log=self.log,
            trace_parent=trace_parent,
            retry_of=retry_of,
        )
        self.tasks[record.task.id] = record
        self._remember(request, content, record)
        return record

    def _remember(
        self, request: task_service_pb2.SubmitTaskRequest, content: bytes, record: FakeTask
    ) -> None:
        if request.request_id:
            self._by_request[request.request_id] = (content, record)

    def _equal(self, request: task_service_pb2.SubmitTaskRequest) -> FakeTask | None:
        """Return the newest task that may answer the request."""
        task_type = task_types()[request.spec.WhichOneof("input") or ""]
        if not request.reuse.mode or not task_type.policy.HasField("cache_ttl"):
            return None
        joins = request.reuse.mode == task_service_pb2.REUSE_MODE_RESULT_OR_JOIN
        for record in reversed(self.tasks.values()):
            if record.offers(request.spec, joins=joins):
                return record
        return None

    def _known(self, request_id: str, content: bytes) -> FakeTask | None:
        if request_id not in self._by_request:
            return None
        before, record = self._by_request[request_id]
        if before != content:
            raise AlreadyExists(
                f"the request_id {request_id} was used for another submission",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": request_id, "task_id": record.task.id},
            )
        return record

    def _check_project(self, project: str) -> None:
        if project not in ("", self.project):
            raise NotFound(
                f"there is no project {project}",
                reason="PROJECT_NOT_FOUND",
                metadata={"project": project},
            )


def _check_sequence(record: FakeTask, after_sequence: int) -> None:
    if after_sequence > record.task.sequence:
        raise OutOfRange(
            f"the task has {record.task.sequence} facts, not {after_sequence}",
            reason="SEQUENCE_AHEAD",
        )


async def _run(record: FakeTask, script: Sequence[Step]) -> None:
    """Take the steps of a script; one that holds the task pending comes before its start."""
    for step in script:
        if isinstance(step, Hold) and step.pending:
            await step.passed()
            continue
        if record.task.state == task_pb2.TASK_STATE_PENDING:
            record.start_attempt()
        await _take(record, step)
        if is_final(record.task):
            return
    if record.task.state == task_pb2.TASK_STATE_PENDING:
        record.start_attempt()
    record.succeed()


async def _take(record: FakeTask, step: Step) -> None:
    match step:
        case ReportProgress(progress):
            record.report(progress)
        case Succeed(output):
            record.succeed(output)
        case Fail(failure, final=True):
            record.fail(failure)
        case Fail(failure):
            record.fail_attempt(failure)
        case Hold():
            await step.passed()


def _idle_queues() -> Queues:
    queues: dict[str, operations_service_pb2.Queue] = {}
    for each in task_types().values():
        queue = queues.setdefault(
            each.policy.queue, operations_service_pb2.Queue(name=each.policy.queue)
        )
        queue.task_types.append(each.name)
    return [queues[name] for name in sorted(queues)]


def field_invalid(field: str, description: str, *, reason: str = "FIELD_INVALID") -> CallError:
    """Return the refusal of a request with one field at fault."""
    return InvalidArgument(
        f"{field}: {description}", reason=reason, violations=[Violation(field, description)]
    )


def _illegal(record: FakeTask, command: str) -> CallError:
    state = state_word(record.task)
    return FailedPrecondition(
        f"cannot {command} task {record.task.id}: it is {state}",
        reason="ILLEGAL_TRANSITION",
        metadata={"task_id": record.task.id, "state": state},
    )


def _write_token(request: task_service_pb2.ListTasksRequest, start: int) -> str:
    return base64.urlsafe_b64encode(f"{start}:{_filter(request)}".encode()).decode()


def _read_token(request: task_service_pb2.ListTasksRequest) -> int:
    if not request.page_token:
        return 0
    try:
        start, _, same = base64.urlsafe_b64decode(request.page_token).decode().partition(":")
        if same == _filter(request):
            return int(start)
    except ValueError:
        pass
    raise field_invalid(
        "page_token", "the page token is not of this list", reason="PAGE_TOKEN_INVALID"
    )


def _filter(request: task_service_pb2.ListTasksRequest) -> str:
    return f"{request.project}:{request.state}:{request.task_type}"
