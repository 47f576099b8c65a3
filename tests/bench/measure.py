"""What is measured, each as medians of several rounds."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from google.protobuf.duration_pb2 import Duration

from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_pb2 import TASK_STATE_SUCCEEDED
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    SubmitTaskRequest,
    SubmitTasksRequest,
    WaitTaskRequest,
    WatchTaskRequest,
)
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.plane import HERE, Plane

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

IDLE_SAMPLES: Final = 200
BATCH: Final = 1_000
BATCHES: Final = 10
ROUNDS: Final = 5
ROUND_SECONDS: Final = 2.0
IN_FLIGHT: Final = 64
PINGS: Final = 20_000
WATCHERS: Final = 200
WATCH_SAMPLES: Final = 100
TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Figure:
    """One measured figure; *ratio* compares it with what *against* names."""

    value: float
    unit: str
    against: str
    ratio: float | None = None


def _ping(*, delay: Duration | None = None) -> SubmitTaskRequest:
    return SubmitTaskRequest(spec=TaskSpec(ping=PingInput()), delay=delay)


async def idle_dispatch(plane: Plane) -> Figure:
    """SubmitTask call → the ping's actor started, on an idle plane."""
    waits: list[float] = []
    with plane.worker([sys.executable, str(HERE / "timed_worker.py")]):
        for sample in range(IDLE_SAMPLES + 20):
            called = time.monotonic_ns()
            submitted = await plane.stub.SubmitTask(
                _ping(), metadata=plane.metadata, timeout=TIMEOUT
            )
            waiting = WaitTaskRequest(task_id=submitted.task.id)
            done = await plane.stub.WaitTask(waiting, metadata=plane.metadata, timeout=TIMEOUT)
            output = PingOutput()
            if done.task.state != TASK_STATE_SUCCEEDED or not done.task.output.Unpack(output):
                raise SystemExit(f"a ping ended as {done.task}")
            if sample >= 20:
                waits.append((int(output.echo) - called) / 1e6)
            # As if the next caller came a little later: the plane goes idle in between.
            await asyncio.sleep(0.01)
    return Figure(median(waits), "ms", "appendfsync always, one caller, bar 5 ms")


async def batch_submit(plane: Plane) -> Figure:
    """Tasks accepted a second by SubmitTasks of 1,000, one call after the other."""
    request = SubmitTasksRequest(requests=[_ping()] * BATCH)
    rates: list[float] = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        answer = await plane.stub.SubmitTasks(request, metadata=plane.metadata, timeout=TIMEOUT)
        rates.append(BATCH / (time.perf_counter() - start))
        if any(not result.HasField("task") for result in answer.results):
            raise SystemExit("a task of a batch was refused")
    return Figure(median(rates), "tasks/s", "appendfsync always, one caller, bar 8,000")


async def worker_pings(plane: Plane) -> Figure:
    """Pings of no duration run a second by one worker process with 8 threads."""
    request = SubmitTasksRequest(requests=[_ping()] * BATCH)
    before = await _finals(plane)
    queued = await _ready(plane)
    for _ in range(max(0, PINGS - queued) // BATCH):
        await plane.stub.SubmitTasks(request, metadata=plane.metadata, timeout=TIMEOUT)
    total = await _ready(plane)
    marks: list[tuple[float, int]] = []
    with plane.worker([sys.executable, "-m", "callsheet.worker"]):
        while not marks or marks[-1][1] < total:
            marks.append((time.perf_counter(), await _finals(plane) - before))
            await asyncio.sleep(0.05)
    # Without the start, in which modules are imported, and the end, in which threads run dry.
    inner = [mark for mark in marks if 0.1 * total <= mark[1] <= 0.9 * total]
    (first, low), (last, high) = inner[0], inner[-1]
    return Figure((high - low) / (last - first), "tasks/s", "every fact durable, bar 2,000")


async def submit_rate(plane: Plane) -> Figure:
    """SubmitTask calls a second with 64 in flight, against an empty grpc.aio handler."""
    ours: list[float] = []
    empty: list[float] = []
    for _ in range(ROUNDS):
        empty.append(await _rate(plane, plane.empty))
        ours.append(await _rate(plane, plane.stub))
    ratio = median(mine / theirs for mine, theirs in zip(ours, empty, strict=True))
    against = f"an empty grpc.aio handler, {median(empty):.0f} calls/s, bar 0.3"
    return Figure(median(ours), "calls/s", against, ratio=ratio)


async def _rate(plane: Plane, stub: TaskServiceAsyncStub) -> float:
    request = _ping()
    end = time.perf_counter() + ROUND_SECONDS
    calls = 0

    async def call() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await stub.SubmitTask(request, metadata=plane.metadata, timeout=TIMEOUT)
            calls += 1

    start = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(IN_FLIGHT)))
    return calls / (time.perf_counter() - start)


async def watch_events(plane: Plane) -> tuple[Figure, Figure]:
    """Submit → first fact at its watcher with 200 other watches open; cancel → 200 watchers."""
    hour = Duration(seconds=3600)
    waiting = [await _submitted(plane, _ping(delay=hour)) for _ in range(WATCHERS)]
    alone = [asyncio.create_task(_until_cancelled(plane, task_id)) for task_id in waiting]
    waits: list[float] = []
    for _ in range(WATCH_SAMPLES):
        start = time.perf_counter()
        task_id = await _submitted(plane, _ping(delay=hour))
        stream = plane.stub.WatchTask(
            WatchTaskRequest(task_id=task_id), metadata=plane.metadata, timeout=TIMEOUT
        )
        async for _event in stream:
            break
        waits.append((time.perf_counter() - start) * 1e3)
        stream.cancel()
    shared = await _submitted(plane, _ping(delay=hour))
    watching = [asyncio.create_task(_until_cancelled(plane, shared)) for _ in range(WATCHERS)]
    await asyncio.sleep(1)  # for the streams to open: the server tells nobody when one has
    start = time.perf_counter()
    await _cancel(plane, shared)
    fan_out = [(seen - start) * 1e3 for seen in await asyncio.gather(*watching)]
    for task_id in waiting:
        await _cancel(plane, task_id)
    await asyncio.gather(*alone)
    against = f"{WATCHERS} other watches open, bar 6 ms"
    return (
        Figure(median(waits), "ms", against),
        Figure(median(fan_out), "ms", f"{WATCHERS} watchers of one task, no bar"),
    )


async def _until_cancelled(plane: Plane, task_id: str) -> float:
    stream = plane.stub.WatchTask(
        WatchTaskRequest(task_id=task_id), metadata=plane.metadata, timeout=TIMEOUT
    )
    seen = 0.0
    async for response in stream:
        if response.event.HasField("task_cancelled"):
            seen = time.perf_counter()
    return seen


async def _submitted(plane: Plane, request: SubmitTaskRequest) -> str:
    answer = await plane.stub.SubmitTask(request, metadata=plane.metadata, timeout=TIMEOUT)
    return answer.task.id


async def _cancel(plane: Plane, task_id: str) -> None:
    request = CancelTaskRequest(task_id=task_id)
    await plane.stub.CancelTask(request, metadata=plane.metadata, timeout=TIMEOUT)


async def _finals(plane: Plane) -> int:
    return await plane.redis.zcard(plane.keys.final)


async def _ready(plane: Plane) -> int:
    return await plane.redis.zcard(plane.keys.ready("system"))


#: Each measurement, by the name of its figure.
MEASUREMENTS: Final[dict[str, Callable[[Plane], Awaitable[Figure]]]] = {
    "idle_dispatch_p50_ms": idle_dispatch,
    "batch_submit_per_s": batch_submit,
    "submit64_vs_empty": submit_rate,
    "worker_ping_per_s": worker_pings,
}
