"""Calls to the plane, each written down before it is sent and again when its outcome is known."""

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import grpc
from google.protobuf.message import Message

from callsheet.client.errors import CallError, from_refusal, from_rpc_error
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    RetryTaskRequest,
    SubmitTaskRequest,
    SubmitTasksRequest,
)
from callsheet.v1.task_service_pb2_grpc import TaskServiceStub
from tests.chaos.digests import digest_of_text
from tests.chaos.history import (
    CallAnswered,
    CallBegun,
    CallName,
    CallRefused,
    CallUnknown,
    HistoryWriter,
)

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

Intent = Literal["succeed", "fail", "poison", "refuse", "any"]

#: What a server says of a request that changed nothing.
REFUSALS: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
    }
)

_TIMEOUT: Final = 4.0
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)


class Caller:
    """Calls as one project, of any of the servers in turn."""

    def __init__(
        self, project: str, *, key: str, addresses: Sequence[str], history: HistoryWriter
    ) -> None:
        self.project = project
        self.metadata = (("x-api-key", key),)
        self._history = history
        self._channels = [grpc.aio.insecure_channel(a, options=_OPTIONS) for a in addresses]
        self._stubs = itertools.cycle([TaskServiceStub(channel) for channel in self._channels])
        self._numbers = itertools.count(1)

    async def close(self) -> None:
        """Hang up."""
        for channel in self._channels:
            await channel.close()

    def stub(self) -> "TaskServiceAsyncStub":
        """Return the stub of the next server."""
        return next(self._stubs)

    async def get(self, task_id: str) -> task_pb2.Task:
        """Return the task as it is. Raises CallError."""
        try:
            request = GetTaskRequest(task_id=task_id)
            answer = await self.stub().GetTask(request, metadata=self.metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return answer.task

    async def submit(
        self, request: SubmitTaskRequest, *, receiver: str = "", intent: Intent = "any"
    ) -> task_pb2.Task:
        """Submit a task, once. Raises CallError."""
        call = self._submission(request, receiver=receiver, intent=intent)
        try:
            answer = await self.stub().SubmitTask(request, metadata=self.metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise self._failed(call, from_rpc_error(error)) from error
        return self._answered(call, answer.task)

    async def submit_many(
        self, requests: Sequence[SubmitTaskRequest], *, intent: Intent = "any"
    ) -> list[task_pb2.Task | CallError]:
        """Submit a batch, once; return what became of each."""
        calls = [self._submission(request, receiver="", intent=intent) for request in requests]
        try:
            answer = await self.stub().SubmitTasks(
                SubmitTasksRequest(requests=requests), metadata=self.metadata, timeout=_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            failed = from_rpc_error(error)
            return [self._failed(call, failed) for call in calls]
        return [
            self._answered(call, result.task)
            if result.HasField("task")
            else self._failed(call, from_refusal(result.refusal))
            for call, result in zip(calls, answer.results, strict=True)
        ]

    async def cancel(self, task_id: str, *, reason: str) -> task_pb2.Task:
        """Ask a task to stop, once. Raises CallError."""
        call = self._begun("cancel", task_id=task_id)
        try:
            answer = await self.stub().CancelTask(
                CancelTaskRequest(task_id=task_id, reason=reason),
                metadata=self.metadata,
                timeout=_TIMEOUT,
            )
        except grpc.aio.AioRpcError as error:
            raise self._failed(call, from_rpc_error(error)) from error
        return self._answered(call, answer.task)

    async def retry(self, task_id: str, *, request_id: str) -> task_pb2.Task:
        """Ask for a task like one that failed or was cancelled, once. Raises CallError."""
        call = self._begun("retry", task_id=task_id, request_id=request_id)
        try:
            answer = await self.stub().RetryTask(
                RetryTaskRequest(task_id=task_id, request_id=request_id),
                metadata=self.metadata,
                timeout=_TIMEOUT,
            )
        except grpc.aio.AioRpcError as error:
            raise self._failed(call, from_rpc_error(error)) from error
        return self._answered(call, answer.task)

    def _submission(self, request: SubmitTaskRequest, *, receiver: str, intent: Intent) -> str:
        return self._begun(
            "submit",
            request_id=request.request_id,
            spec_digest=request.metadata["spec_digest"],
            receiver=receiver,
            intent=intent,
        )

    def _begun(
        self,
        rpc: CallName,
        *,
        request_id: str = "",
        spec_digest: str = "",
        task_id: str = "",
        receiver: str = "",
        intent: Intent = "any",
    ) -> str:
        call = f"{self.project}-{next(self._numbers)}"
        self._history.write(
            CallBegun(
                at=time.monotonic(),
                call=call,
                rpc=rpc,
                project=self.project,
                request_id=request_id,
                spec_digest=spec_digest,
                task_id=task_id,
                receiver=receiver,
                intent=intent,
            )
        )
        return call

    def _answered(self, call: str, task: task_pb2.Task) -> task_pb2.Task:
        self._history.write(
            CallAnswered(
                at=time.monotonic(),
                call=call,
                task_id=task.id,
                state=state_word(task.state),
                sequence=task.sequence,
            )
        )
        return task

    def _failed(self, call: str, error: CallError) -> CallError:
        code, now = error.code.name, time.monotonic()
        # What gRPC itself gives up has no reason; whether the server did it, nobody knows.
        if code in REFUSALS and error.reason:
            self._history.write(CallRefused(at=now, call=call, code=code, reason=error.reason))
        else:
            self._history.write(CallUnknown(at=now, call=call, code=code))
        return error


def state_word(state: task_pb2.TaskState.ValueType) -> str:
    """Return a state without its prefix."""
    return task_pb2.TaskState.Name(state).removeprefix("TASK_STATE_")


def signed(request: SubmitTaskRequest, *, request_id: str) -> SubmitTaskRequest:
    """Return the request with its id, which its metadata repeats beside a digest of the rest."""
    digest = digest_of_text([digest_text(request)])
    request.request_id = request_id
    request.metadata["request_id"] = request_id
    request.metadata["spec_digest"] = digest
    return request


def digest_text(message: Message) -> str:
    """Return a message as text that is equal for equal ones."""
    return message.SerializeToString(deterministic=True).hex()
