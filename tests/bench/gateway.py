"""What is measured of the gateway: submissions over REST while every worker is busy."""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median, quantiles
from typing import Final

from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.http_caller import HttpCaller, dial, http_request
from tests.bench.measure import BATCH, TIMEOUT, Figure, Note
from tests.bench.plane import Plane, free_address

#: Each posts its next task when the one before was accepted.
USERS: Final = 50
SECONDS: Final = 10.0
#: More than a worker gets through while its users are served.
BACKLOG: Final = 40_000
_WARM_UP: Final = 5
_PATH: Final = "/api/v1/tasks/submit"


async def gateway_figures(plane: Plane, note: Note) -> None:
    """Measure how long 50 users at once wait until their tasks are accepted."""
    (_, key), *_ = plane.metadata
    await _fill(plane)
    address = free_address()
    serving = plane.process(
        [sys.executable, "-m", "callsheet.gateway"], CALLSHEET_GATEWAY_ADDRESS=address
    )
    # Its slots are never empty, and it has a core to itself as far as the others let it.
    with serving, plane.worker([sys.executable, "-m", "callsheet.worker"]):
        waits = await _served(int(address.rpartition(":")[2]), key)
    waits_ms = [wait * 1e3 for wait in waits]
    against = f"{USERS} users at once, {len(waits_ms)} tasks, worker busy"
    note("rest_accept_p50_ms", Figure(median(waits_ms), "ms", against))
    note("rest_accept_p99_ms", Figure(quantiles(waits_ms, n=100)[98], "ms", f"{against}, bar 250"))


async def _fill(plane: Plane) -> None:
    ping = SubmitTaskRequest(spec=TaskSpec(ping=PingInput()))
    request = SubmitTasksRequest(requests=[ping] * BATCH)
    for _ in range(BACKLOG // BATCH):
        await plane.stub.SubmitTasks(request, metadata=plane.metadata, timeout=TIMEOUT)


async def _served(port: int, key: str) -> list[float]:
    request = http_request(
        _PATH, {"task_type": "ping", "task_data": {}}, headers={"x-api-key": key}
    )
    callers = [await dial(port) for _ in range(USERS)]
    try:
        for _ in range(_WARM_UP):
            await asyncio.gather(*(caller.post(request) for caller in callers))
        end = time.perf_counter() + SECONDS
        waits = await asyncio.gather(*(_user(caller, request, end=end) for caller in callers))
    finally:
        for caller in callers:
            caller.close()
    return [wait for each in waits for wait in each]


async def _user(caller: HttpCaller, request: bytes, *, end: float) -> list[float]:
    waits: list[float] = []
    while (start := time.perf_counter()) < end:
        await caller.post(request)
        waits.append(time.perf_counter() - start)
    return waits
