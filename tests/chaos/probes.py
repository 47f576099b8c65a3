"""Questions that must be refused: about another project's tasks, and about tasks that ended."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from callsheet.client.errors import CallError
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    RetryTaskRequest,
    WaitTaskRequest,
    WatchTaskRequest,
)
from tests.chaos.calls import REFUSALS, Caller, digest_text
from tests.chaos.digests import digest_of_text
from tests.chaos.history import ForeignProbe, HistoryWriter, ListedTask, RefusedProbe

_TIMEOUT: Final = 4.0


async def _get(caller: Caller, task_id: str) -> object:
    request = GetTaskRequest(task_id=task_id)
    return await caller.stub().GetTask(request, metadata=caller.metadata, timeout=_TIMEOUT)


async def _wait(caller: Caller, task_id: str) -> object:
    request = WaitTaskRequest(task_id=task_id, timeout=Duration(seconds=1))
    return await caller.stub().WaitTask(request, metadata=caller.metadata, timeout=_TIMEOUT)


async def _watch(caller: Caller, task_id: str) -> object:
    request = WatchTaskRequest(task_id=task_id)
    call = caller.stub().WatchTask(request, metadata=caller.metadata, timeout=_TIMEOUT)
    return [response async for response in call]


async def _cancel(caller: Caller, task_id: str) -> object:
    request = CancelTaskRequest(task_id=task_id)
    return await caller.stub().CancelTask(request, metadata=caller.metadata, timeout=_TIMEOUT)


async def _retry(caller: Caller, task_id: str) -> object:
    request = RetryTaskRequest(task_id=task_id)
    return await caller.stub().RetryTask(request, metadata=caller.metadata, timeout=_TIMEOUT)


#: All that can be asked about a task, by the name of the call.
QUESTIONS: Final[Mapping[str, Callable[[Caller, str], Awaitable[object]]]] = {
    "GetTask": _get,
    "WaitTask": _wait,
    "WatchTask": _watch,
    "CancelTask": _cancel,
    "RetryTask": _retry,
}


async def probe_foreign(
    stranger: Caller, task_id: str, *, rpc: str, history: HistoryWriter
) -> None:
    """Ask about a task that belongs to somebody else, and write down the answer."""
    code = "OK"
    try:
        await QUESTIONS[rpc](stranger, task_id)
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        if code not in REFUSALS:
            return
    probe = ForeignProbe(
        at=time.monotonic(), rpc=rpc, project=stranger.project, task_id=task_id, code=code
    )
    history.write(probe)


async def probe_refused(caller: Caller, task_id: str, *, history: HistoryWriter) -> None:
    """Cancel a task that has ended, and write down what that changed of it."""
    try:
        before = await caller.get(task_id)
        code = await _refusal_of_cancel(caller, task_id)
        after = await caller.get(task_id)
    except CallError:
        return  # nobody knows
    if not code:
        return
    history.write(
        RefusedProbe(
            at=time.monotonic(),
            rpc="CancelTask",
            project=caller.project,
            task_id=task_id,
            code=code,
            before=digest_of_text([digest_text(before)]),
            after=digest_of_text([digest_text(after)]),
        )
    )


async def _refusal_of_cancel(caller: Caller, task_id: str) -> str:
    """Return the code with which a cancellation is refused; empty: it was not, or who knows."""
    try:
        await caller.cancel(task_id, reason="too late")
    except CallError as error:
        return error.code.name if error.code.name in REFUSALS else ""
    return ""


async def list_newest(caller: Caller, *, history: HistoryWriter) -> None:
    """Write down which tasks the project is shown as its own."""
    request = ListTasksRequest(page_size=50)
    try:
        answer = await caller.stub().ListTasks(request, metadata=caller.metadata, timeout=_TIMEOUT)
    except grpc.aio.AioRpcError:
        return
    for task in answer.tasks:
        history.write(ListedTask(at=time.monotonic(), project=caller.project, task_id=task.id))
