"""The wire of the fake plane: keys, refusals as status details, answers as messages."""

from __future__ import annotations

import hmac
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from callsheet.client.errors import (
    DETAILS_KEY,
    CallError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from callsheet.client.submission import to_duration
from callsheet.v1 import (
    operations_service_pb2,
    operations_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from grpc.aio import ServicerContext

    from callsheet.client.testing.plane import FakePlane

    #: What gRPC passes to every method; its type arguments say nothing here.
    Context = ServicerContext[Any, Any]

Response = TypeVar("Response")

_DOMAIN = "callsheet.dev"


@dataclass(frozen=True)
class Call:
    """One call as the fake plane received it."""

    #: The method's name, such as SubmitTask.
    method: str
    request: Message
    #: The text metadata, with the key and the traceparent.
    metadata: Mapping[str, str]


@dataclass
class Wire:
    """What stands between a call and the plane: its key, and the faults a test asked for."""

    key: str
    calls: list[Call] = field(default_factory=list[Call])
    refusals: dict[str, deque[CallError]] = field(default_factory=dict[str, "deque[CallError]"])
    lost_replies: dict[str, int] = field(default_factory=dict[str, int])

    async def answer(
        self,
        context: Context,
        request: Message,
        produce: Callable[[], Awaitable[Response]],
        *,
        method: str,
    ) -> Response:
        """Answer one call with what ``produce`` makes, or fail it as the real service would."""
        try:
            self.admit(context, request, method=method)
            response = await produce()
            if self.lost_replies.get(method, 0):
                self.lost_replies[method] -= 1
                raise Unavailable("the answer was lost on its way")
        except CallError as error:
            await abort(context, error)
        return response

    def admit(self, context: Context, request: Message, *, method: str) -> None:
        """Record the call. Raises Unauthenticated, and what a test told it to."""
        metadata = {
            name: value
            for name, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        self.calls.append(Call(method, request, metadata))
        self._check_key(metadata)
        self.refuse(method)

    def refuse(self, method: str) -> None:
        """Raise the next refusal that a test asked for, if there is one."""
        waiting = self.refusals.get(method)
        if waiting:
            raise waiting.popleft()

    def _check_key(self, metadata: Mapping[str, str]) -> None:
        key = metadata.get("authorization", "").removeprefix("Bearer ")
        key = key or metadata.get("x-api-key", "")
        if not key:
            raise Unauthenticated("an API key is needed", reason="KEY_MISSING")
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            raise Unauthenticated("the API key is not valid", reason="KEY_INVALID")


async def abort(context: Context, error: CallError) -> NoReturn:
    """End the call with the error's status and details."""
    status = Status(code=error.code.value[0], message=error.message)
    info = ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata)
    details: list[Message] = [info] if error.reason else []
    if error.retry_delay is not None:
        details.append(RetryInfo(retry_delay=to_duration(error.retry_delay)))
    if error.violations:
        violations = [
            BadRequest.FieldViolation(field=each.field, description=each.description)
            for each in error.violations
        ]
        details.append(BadRequest(field_violations=violations))
    for detail in details:
        status.details.add().Pack(detail)
    trailing = ((DETAILS_KEY, status.SerializeToString()),) if details else ()
    await context.abort(error.code, error.message, trailing)


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

    async def WatchTasks(
        self, request: task_service_pb2.WatchTasksRequest, context: Context
    ) -> AsyncIterator[task_service_pb2.WatchTasksResponse]:
        await abort(context, Unimplemented("not served yet", reason="NOT_IMPLEMENTED"))
        yield task_service_pb2.WatchTasksResponse()  # makes this the generator that gRPC expects

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


class FakeOperationsServicer(operations_service_pb2_grpc.OperationsServiceServicer):
    """OperationsService with what a test put there."""

    def __init__(self, plane: FakePlane, wire: Wire) -> None:
        self._plane = plane
        self._wire = wire

    async def ListQueues(
        self, request: operations_service_pb2.ListQueuesRequest, context: Context
    ) -> operations_service_pb2.ListQueuesResponse:
        async def produce() -> operations_service_pb2.ListQueuesResponse:
            return operations_service_pb2.ListQueuesResponse(queues=self._plane.queues)

        return await self._wire.answer(context, request, produce, method="ListQueues")

    async def ListWorkers(
        self, request: operations_service_pb2.ListWorkersRequest, context: Context
    ) -> operations_service_pb2.ListWorkersResponse:
        async def produce() -> operations_service_pb2.ListWorkersResponse:
            return operations_service_pb2.ListWorkersResponse(workers=self._plane.workers)

        return await self._wire.answer(context, request, produce, method="ListWorkers")

    async def ListDeliveries(
        self, request: operations_service_pb2.ListDeliveriesRequest, context: Context
    ) -> operations_service_pb2.ListDeliveriesResponse:
        async def produce() -> operations_service_pb2.ListDeliveriesResponse:
            if request.task_id:
                self._plane.get(request.task_id)
            found = [
                each
                for each in self._plane.deliveries
                if request.task_id in ("", each.task_id) and _fits(each, request.filter)
            ]
            return operations_service_pb2.ListDeliveriesResponse(deliveries=found)

        return await self._wire.answer(context, request, produce, method="ListDeliveries")

    async def ReplayDeliveries(
        self, request: operations_service_pb2.ReplayDeliveriesRequest, context: Context
    ) -> operations_service_pb2.ReplayDeliveriesResponse:
        async def produce() -> operations_service_pb2.ReplayDeliveriesResponse:
            found = [each for each in self._plane.deliveries if _is_selected(each, request)]
            for each in found:
                each.state = operations_service_pb2.DELIVERY_STATE_WAITING
            return operations_service_pb2.ReplayDeliveriesResponse(replayed=len(found))

        return await self._wire.answer(context, request, produce, method="ReplayDeliveries")


def _is_selected(
    delivery: operations_service_pb2.Delivery,
    request: operations_service_pb2.ReplayDeliveriesRequest,
) -> bool:
    match request.WhichOneof("selection"):
        case "delivery_id":
            return delivery.id == request.delivery_id
        case "task":
            wanted = request.task
            is_of_task = delivery.task_id == wanted.task_id
            return is_of_task and delivery.sequence >= wanted.from_sequence
        case _:
            dead = operations_service_pb2.DELIVERY_STATE_DEAD
            is_wanted = delivery.state == (request.filter.state or dead)
            return is_wanted and _fits(delivery, request.filter)


def _fits(
    delivery: operations_service_pb2.Delivery, wanted: operations_service_pb2.DeliveryFilter
) -> bool:
    created = delivery.create_time.ToMicroseconds()
    after, before = wanted.created_after, wanted.created_before
    return (
        wanted.state in (0, delivery.state)
        and wanted.url in ("", delivery.url)
        and (not wanted.HasField("created_after") or after.ToMicroseconds() <= created)
        and (not wanted.HasField("created_before") or created < before.ToMicroseconds())
    )


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
