"""TaskService: decode, one question, encode."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from callsheet.control.calls import Call
from callsheet.control.convert import (
    OUTCOMES,
    fact_to_proto,
    task_to_proto,
    to_filter,
    to_watch_filter,
)
from callsheet.control.pulse import Pulse
from callsheet.control.submissions import Submissions
from callsheet.control.validation import Validation
from callsheet.control.watching import Watching
from callsheet.control.watching_many import WatchingMany
from callsheet.ledger.codec import parse_event
from callsheet.ledger.ledger import Ledger, Reading
from callsheet.ledger.model import Task
from callsheet.ledger.overview import Overview
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    CancelTaskResponse,
    GetTaskRequest,
    GetTaskResponse,
    ListTaskEventsRequest,
    ListTaskEventsResponse,
    ListTasksRequest,
    ListTasksResponse,
    RetryTaskRequest,
    RetryTaskResponse,
    SubmitTaskRequest,
    SubmitTaskResponse,
    SubmitTasksRequest,
    SubmitTasksResponse,
    WaitTaskRequest,
    WaitTaskResponse,
    WatchTaskRequest,
    WatchTasksRequest,
)

DEFAULT_WAIT: Final = timedelta(seconds=30)
DEFAULT_PAGE_SIZE: Final = 50
DEFAULT_SNAPSHOT_SIZE: Final = 200

#: Methods that may take longer than other calls.
LIMITS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {"WaitTask": timedelta(minutes=10, seconds=30)}
)

#: What is left of a waiting client's time for the answer to reach it: a share, and at most so much.
_ANSWER_SHARE: Final = 0.1
_ANSWER_TIME: Final = timedelta(milliseconds=250)


class TaskService:
    """Serves callsheet.v1.TaskService."""

    def __init__(
        self,
        ledger: Ledger,
        overview: Overview,
        validation: Validation,
        watching: Watching,
        watching_many: WatchingMany,
        *,
        pulse: Pulse,
        submissions: Submissions,
    ) -> None:
        self._ledger = ledger
        self._overview = overview
        self._validation = validation
        self._watching = watching
        self._watching_many = watching_many
        self._pulse = pulse
        self._submissions = submissions

    async def SubmitTask(self, request: SubmitTaskRequest, call: Call) -> SubmitTaskResponse:
        """Accept a task."""
        command = await self._submissions.command(
            request, call.principal, trace_parent=call.trace_parent
        )
        task, outcome = await self._ledger.accept(call.principal, command)
        return SubmitTaskResponse(task=self._shown(task), outcome=OUTCOMES[outcome])

    async def SubmitTasks(self, request: SubmitTasksRequest, call: Call) -> SubmitTasksResponse:
        """Accept or refuse each of up to 1,000 tasks."""
        self._validation.check(request)
        return await self._submissions.accept(
            call.principal, request.requests, trace_parent=call.trace_parent
        )

    async def GetTask(self, request: GetTaskRequest, call: Call) -> GetTaskResponse:
        """Answer a task as it is, and why it waits."""
        self._validation.check(request)
        reading = await self._ledger.get(call.principal, _task_id(request))
        return GetTaskResponse(task=await self._explained(reading))

    async def ListTasks(self, request: ListTasksRequest, call: Call) -> ListTasksResponse:
        """Answer a page of a project's tasks."""
        self._validation.check_list(request)
        page = await self._ledger.page(
            call.principal,
            to_filter(request),
            page_size=request.page_size or DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        tasks = [self._shown(task) for task in page.tasks]
        return ListTasksResponse(tasks=tasks, next_page_token=page.next_token)

    async def WaitTask(self, request: WaitTaskRequest, call: Call) -> WaitTaskResponse:
        """Answer a task when it is final, or when the time is over."""
        self._validation.check(request)
        wanted = request.timeout.ToTimedelta() if request.HasField("timeout") else DEFAULT_WAIT
        timeout = _within(wanted, call.remaining)
        reading = await self._watching.final(call.principal, _task_id(request), timeout=timeout)
        return WaitTaskResponse(task=await self._explained(reading))

    async def WatchTask(self, request: WatchTaskRequest, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield what happens to a task, as serialised WatchTaskResponses."""
        self._validation.check(request)
        events = self._watching.events(
            call.principal,
            _task_id(request),
            after=request.after_sequence,
            epoch=request.epoch,
        )
        async for event in events:
            yield event

    async def ListTaskEvents(
        self, request: ListTaskEventsRequest, call: Call
    ) -> ListTaskEventsResponse:
        """Answer the facts of a task after a sequence."""
        self._validation.check(request)
        task_id, epoch = _task_id(request), self._pulse.epoch
        found = await self._ledger.history(call.principal, task_id, after=request.after_sequence)
        events = [
            fact_to_proto(parse_event(fact), task_id=task_id, epoch=epoch) for fact in found.facts
        ]
        return ListTaskEventsResponse(events=events, has_more=found.has_more)

    async def WatchTasks(
        self, request: WatchTasksRequest, call: Call
    ) -> AsyncGenerator[bytes, None]:
        """Yield the tasks that fit, and what happens to them, as serialised responses."""
        self._validation.check_watch(request)
        size = request.snapshot_size if request.HasField("snapshot_size") else DEFAULT_SNAPSHOT_SIZE
        responses = self._watching_many.responses(
            call.principal, to_watch_filter(request), cursor=request.cursor, snapshot_size=size
        )
        async with aclosing(responses):
            async for response in responses:
                yield response

    async def CancelTask(self, request: CancelTaskRequest, call: Call) -> CancelTaskResponse:
        """Ask a task to stop."""
        self._validation.check(request)
        task = await self._ledger.cancel(call.principal, _task_id(request), reason=request.reason)
        return CancelTaskResponse(task=self._shown(task))

    async def RetryTask(self, request: RetryTaskRequest, call: Call) -> RetryTaskResponse:
        """Submit a task's spec anew."""
        self._validation.check(request)
        task = await self._ledger.retry(
            call.principal,
            _task_id(request),
            request_id=request.request_id,
            trace_parent=call.trace_parent,
        )
        return RetryTaskResponse(task=self._shown(task))

    def _shown(self, task: Task) -> task_pb2.Task:
        return task_to_proto(task, epoch=self._pulse.epoch)

    async def _explained(self, reading: Reading) -> task_pb2.Task:
        return task_to_proto(
            reading.task,
            epoch=self._pulse.epoch,
            progress=reading.progress,
            wait=await self._overview.why(reading.task),
        )


Named = (
    GetTaskRequest
    | WaitTaskRequest
    | WatchTaskRequest
    | ListTaskEventsRequest
    | CancelTaskRequest
    | RetryTaskRequest
)


def _task_id(request: Named) -> str:
    # A UUID is the same in capitals; the ledger knows it in small letters.
    return request.task_id.lower()


def _within(wanted: timedelta, remaining: timedelta | None) -> timedelta:
    """Return how long to wait, so that the answer comes before the client's deadline."""
    if remaining is None:
        return wanted
    return min(wanted, remaining - min(_ANSWER_SHARE * remaining, _ANSWER_TIME))
