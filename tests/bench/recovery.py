"""How soon work goes on after a worker, or the ledger's server, was killed with -9."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration

from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_pb2 import TASK_STATE_SUCCEEDED
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    SubmitTaskRequest,
    WaitTaskRequest,
    WatchTaskRequest,
)
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.measure import TIMEOUT, Figure, Note
from tests.bench.scale_plane import LEASE, QUEUE, ScalePlane, ping, scale_plane
from tests.support.eventually import eventually

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

#: Tasks that a worker has at a time.
SLOTS: Final = 8
#: Longer than everything here takes.
_LONG: Final = Duration(seconds=600)


async def recovery_figures(folder: Path, note: Note, *, lease: timedelta = LEASE) -> None:
    """Kill a worker that has just started as many tasks as it can, then the server."""
    variables = {
        "CALLSHEET_WORKER_QUEUES": QUEUE,
        "CALLSHEET_WORKER_SLOTS": str(SLOTS),
        "CALLSHEET_LEASE_SECONDS": f"{lease.total_seconds():g}",
    }
    async with (
        scale_plane(folder, "control", "upkeep", "worker", **variables) as plane,
        plane.client() as stub,
    ):
        seconds = await _lost_worker(plane, stub, lease)
        bar = (lease + timedelta(seconds=2)).total_seconds()
        against = (
            f"kill -9 of a worker with {SLOTS} fresh leases of {lease.total_seconds():g} s "
            f"→ the last one's next attempt, bar {bar:g} s"
        )
        note("recovery_s", Figure(seconds, "s", against))
        seconds = await _lost_server(plane, stub)
        against = "kill -9 of Valkey, started again at once → a task submitted since has finished"
        note("valkey_recovery_s", Figure(seconds, "s", against))


async def _lost_worker(plane: ScalePlane, stub: TaskServiceAsyncStub, lease: timedelta) -> float:
    """Return the seconds from the kill to the last of the second attempts."""
    request = SubmitTaskRequest(spec=TaskSpec(ping=PingInput(duration=_LONG)))
    ids = await plane.submit(stub, request, SLOTS)
    async with asyncio.timeout(TIMEOUT):
        await _started(plane, stub, ids, attempt=1)
    # Started after the tasks were taken, so it has room for all of them.
    plane.start("worker", name="second-worker")
    watching = asyncio.create_task(_started(plane, stub, ids, attempt=2))
    await _renewed(plane)
    plane.rooms["worker"].kill()
    killed = time.perf_counter()
    async with asyncio.timeout(3 * lease.total_seconds() + TIMEOUT):
        started = await watching
    await _cancelled(plane, stub, ids)
    return started - killed


async def _cancelled(plane: ScalePlane, stub: TaskServiceAsyncStub, ids: Sequence[str]) -> None:
    """Free the slots of whoever runs these tasks."""
    for task_id in ids:
        cancel = CancelTaskRequest(task_id=task_id)
        await stub.CancelTask(cancel, metadata=plane.metadata, timeout=TIMEOUT)

    async def are_free() -> bool:
        return await plane.cell.store.count(plane.cell.keys.leases) == 0

    await eventually(are_free)


async def _renewed(plane: ScalePlane) -> None:
    """Return when the leases were renewed just now: they could not last any longer."""
    leases = plane.cell.keys.leases
    before = await plane.cell.store.members(leases, limit=1)

    async def are_others() -> bool:
        return await plane.cell.store.members(leases, limit=1) != before

    await eventually(are_others)


async def _started(
    plane: ScalePlane, stub: TaskServiceAsyncStub, ids: Sequence[str], *, attempt: int
) -> float:
    """Return when the last of the tasks had started that attempt."""
    watching = (_attempt_started(plane, stub, task_id, attempt) for task_id in ids)
    return max(await asyncio.gather(*watching))


async def _attempt_started(
    plane: ScalePlane, stub: TaskServiceAsyncStub, task_id: str, attempt: int
) -> float:
    request = WatchTaskRequest(task_id=task_id)
    stream = stub.WatchTask(request, metadata=plane.metadata, timeout=10 * TIMEOUT)
    async for response in stream:
        if response.event.attempt_started.attempt == attempt:
            seen = time.perf_counter()
            stream.cancel()
            return seen
    raise SystemExit(f"task {task_id} ended without attempt {attempt}")


async def _lost_server(plane: ScalePlane, stub: TaskServiceAsyncStub) -> float:
    """Return the seconds from the kill until a task that was submitted after it has succeeded."""
    request = ping()
    # A call may have had its effect: repeated with its id it makes no second task.
    request.request_id = str(uuid4())
    killed = time.perf_counter()
    plane.valkey.kill()
    plane.valkey.start()
    await eventually(lambda: _is_done(plane, stub, request))
    return time.perf_counter() - killed


async def _is_done(
    plane: ScalePlane, stub: TaskServiceAsyncStub, request: SubmitTaskRequest
) -> bool:
    """Submit, or find what was submitted, and wait for its end; False when the ledger is away."""
    try:
        answer = await stub.SubmitTask(request, metadata=plane.metadata, timeout=TIMEOUT)
        waiting = WaitTaskRequest(task_id=answer.task.id)
        done = await stub.WaitTask(waiting, metadata=plane.metadata, timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return done.task.state == TASK_STATE_SUCCEEDED
