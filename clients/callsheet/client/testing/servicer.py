"""TaskService of the fake plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet.client.errors import CallError
from callsheet.client.submission import to_duration
from callsheet.client.testing.wire import Wire, abort
from callsheet.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from callsheet.client.testing.plane import FakePlane
    from callsheet.client.testing.wire import Context


class FakeTaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """TaskService on a plane in memory."""

    def __init__(self, plane: FakePlane, wire: Wire) -> None:
        self._plane = plane
        self._wire = wire

    async def SubmitTask(
        self, request: task_service_pb2.SubmitTaskRequest, context: Context
    ) -> task_service_pb2.SubmitTaskResponse:
        async def produce() -> task_service_pb2.SubmitTaskResponse:
            task, outcome = self._plane.submit(request, trace_parent=_trace_parent(context))
            return task_service_pb2.SubmitTaskResponse(task=task, outcome=outcome)

        return await self._wire.answer(context, request, produce, method="SubmitTask")

    async def SubmitTasks(
        self, request: task_service_pb2.SubmitTasksRequest, context: Context
    ) -> task_service_pb2.SubmitTasksResponse:
        async def produce() -> task_service_pb2.SubmitTasksResponse:
            trace_parent = _trace_parent(context)
            results = [self._submit_item(each, trace_parent) for each in request.requests]
            return task_service_pb2.SubmitTasksResponse(results=results)

        return await self._wire.answer(context, request, produce, method="SubmitTasks")

    async def GetTask(
        self, request: task_service_pb2.GetTaskRequest, context: Context
    ) -> task_service_pb2.GetTaskResponse:
        async def produce() -> task_service_pb2.GetTaskResponse:
            return task_service_pb2.GetTaskResponse(task=self._plane.get(request.task_id))

        return await self._wire.answer(context, request, produce, method="GetTask")

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, context: Context
    ) -> task_service_pb2.ListTasksResponse:
        async def produce() -> task_service_pb2.ListTasksResponse:
            return self._plane.list(request)

        return await self._wire.answer(context, request, produce, method="ListTasks")

    async def WaitTask(
        self, request: task_service_pb2.WaitTaskRequest, context: Context
    ) -> task_service_pb2.WaitTaskResponse:
        async def produce() -> task_service_pb2.WaitTaskResponse:
            return task_service_pb2.WaitTaskResponse(task=await self._plane.wait(request))

        return await self._wire.answer(context, request, produce, method="WaitTask")

    async def WatchTask(
        self, request: task_service_pb2.WatchTaskRequest, context: Context
    ) -> AsyncIterator[task_service_pb2.WatchTaskResponse]:
        try:
            self._wire.admit(context, request, method="WatchTask")
            async for event in self._plane.watch(request):
                yield task_service_pb2.WatchTaskResponse(event=event)
        except CallError as error:
            await abort(context, error)

    async def ListTaskEvents(
        self, request: task_service_pb2.ListTaskEventsRequest, context: Context
    ) -> task_service_pb2.ListTaskEventsResponse:
        async def produce() -> task_service_pb2.ListTaskEventsResponse:
            return task_service_pb2.ListTaskEventsResponse(events=self._plane.facts(request))

        return await self._wire.answer(context, request, produce, method="ListTaskEvents")

    async def WatchTasks(
        self, request: task_service_pb2.WatchTasksRequest, context: Context
    ) -> AsyncIterator[task_service_pb2.WatchTasksResponse]:
        try:
            self._wire.admit(context, request, method="WatchTasks")
            async for response in self._plane.watch_many(request):
                yield response
        except CallError as error:
            await abort(context, error)

    async def CancelTask(
        self, request: task_service_pb2.CancelTaskRequest, context: Context
    ) -> task_service_pb2.CancelTaskResponse:
        async def produce() -> task_service_pb2.CancelTaskResponse:
            return task_service_pb2.CancelTaskResponse(task=self._plane.cancel(request))

        return await self._wire.answer(context, request, produce, method="CancelTask")

    async def RetryTask(
        self, request: task_service_pb2.RetryTaskRequest, context: Context
    ) -> task_service_pb2.RetryTaskResponse:
        async def produce() -> task_service_pb2.RetryTaskResponse:
            task = self._plane.retry(request, trace_parent=_trace_parent(context))
            return task_service_pb2.RetryTaskResponse(task=task)

        return await self._wire.answer(context, request, produce, method="RetryTask")

    def _submit_item(
        self, request: task_service_pb2.SubmitTaskRequest, trace_parent: str
    ) -> task_service_pb2.SubmitTasksResult:
        try:
            self._wire.refuse("SubmitTask")
            task, outcome = self._plane.submit(request, trace_parent=trace_parent)
        except CallError as error:
            return task_service_pb2.SubmitTasksResult(refusal=_refusal(error))
        accepted = task_pb2.Task(
            id=task.id,
            project=task.project,
            state=task.state,
            sequence=task.sequence,
            create_time=task.create_time,
        )
        return task_service_pb2.SubmitTasksResult(task=accepted, outcome=outcome)


def _trace_parent(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            return value
    return ""


def _refusal(error: CallError) -> task_service_pb2.Refusal:
    delay = error.retry_delay
    return task_service_pb2.Refusal(
        code=error.code.value[0],
        message=error.message,
        reason=error.reason,
        violations=[
            task_service_pb2.FieldViolation(field=each.field, description=each.description)
            for each in error.violations
        ],
        retry_delay=None if delay is None else to_duration(delay),
    )
