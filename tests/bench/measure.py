"""What is measured of the plane alone: a worker with a full queue, and watchers."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from google.protobuf.duration_pb2 import Duration

from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    SubmitTaskRequest,
    SubmitTasksRequest,
    WatchTaskRequest,
)
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.plane import Plane

BATCH: Final = 1_000
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


#: Keeps a figure under its name.
Note = Callable[[str, Figure], None]


def _ping(*, delay: Duration | None = None) -> SubmitTaskRequest:
    return SubmitTaskRequest(spec=TaskSpec(ping=PingInput()), delay=delay)


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
