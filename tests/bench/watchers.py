"""What 1, 100 and 1,000 watchers see how late, and what each event costs control.

The watchers are streams of one client in this very process, which shares the machine with control:
a thousand deliveries of one fact take it tens of milliseconds to read.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from callsheet.ledger.model import Task
from callsheet.v1.task_service_pb2 import WatchTaskRequest
from tests.bench.measure import TIMEOUT, Figure, Note
from tests.bench.scale_plane import (
    PretendedWorker,
    ScalePlane,
    ping,
    process_cpu_seconds,
    scale_plane,
)
from tests.bench.scale_series import Series, percentile

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

COUNTS: Final = (1, 100, 1_000)
#: Facts of tasks that have a watcher each, and of one task that all watch.
OWN_FACTS: Final = 100
SHARED_FACTS: Final = 20


class Watched(NamedTuple):
    """What was seen of some facts."""

    latencies_ms: Sequence[float]
    cpu_us: float


class Audience:
    """Notes when each watcher sees an event, and knows when all have that were to."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._expected = 0
        self._complete = asyncio.Event()

    def expect(self, count: int) -> None:
        """Begin anew: so many events are about to be seen."""
        self.times, self._expected = [], count
        self._complete.clear()

    def see(self) -> None:
        """Note one event, now."""
        self.times.append(time.perf_counter())
        if len(self.times) == self._expected:
            self._complete.set()

    async def complete(self) -> list[float]:
        """Return when each of the expected events was seen. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT):
            await self._complete.wait()
        return self.times


class Facts:
    """Makes facts of tasks: an attempt is started, and given back, in turns."""

    def __init__(self, worker: PretendedWorker) -> None:
        self._worker = worker
        self._running: dict[str, Task] = {}

    async def make(self, task_id: str) -> None:
        """Make one more fact of the task."""
        task = self._running.pop(task_id, None)
        if task is None:
            (self._running[task_id],) = await self._worker.claim(task_id)
        else:
            attempts = self._worker.attempts
            await attempts.hand_back(task, attempt=task.attempt, reason="for its watchers")


async def watcher_figures(
    folder: Path, note: Note, *, counts: Sequence[int] = COUNTS
) -> list[Series]:
    """Measure watchers of a task each, then watchers of one task."""
    found: dict[str, dict[int, Watched]] = {"own": {}, "shared": {}}
    async with scale_plane(folder, "control") as plane, plane.client() as stub:
        facts = Facts(plane.worker())
        for count in counts:
            ids = await plane.submit(stub, ping(), count)
            found["own"][count] = await _watched(plane, facts, ids, ids, facts_made=OWN_FACTS)
            found["shared"][count] = await _watched(
                plane, facts, ids[:1], ids[:1] * count, facts_made=SHARED_FACTS
            )
    return [line for kind, watched in found.items() for line in _told(kind, watched, note)]


async def _watched(
    plane: ScalePlane, facts: Facts, ids: Sequence[str], watchers: Sequence[str], *, facts_made: int
) -> Watched:
    """Make facts of each of the tasks in turn, and see them with a watcher for each of *watchers*.

    A latency is from before the commit's call to an event's arrival.
    """
    deliveries = len(watchers) // len(ids)
    pid = plane.rooms["control"].process.pid
    latencies: list[float] = []
    async with plane.client() as stub, _audience(plane, stub, watchers) as audience:
        before = process_cpu_seconds(pid)
        for task_id in itertools.islice(itertools.cycle(ids), facts_made):
            audience.expect(deliveries)
            start = time.perf_counter()
            await facts.make(task_id)
            latencies += [1e3 * (seen - start) for seen in await audience.complete()]
        spent = process_cpu_seconds(pid) - before
    return Watched(latencies, 1e6 * spent / len(latencies))


@asynccontextmanager
async def _audience(
    plane: ScalePlane, stub: TaskServiceAsyncStub, ids: Sequence[str]
) -> AsyncGenerator[Audience]:
    """Watch each of these tasks from its newest fact on; all streams are open."""
    audience = Audience()
    audience.expect(len(ids))
    watching = [asyncio.create_task(_watch(plane, stub, each, audience)) for each in ids]
    try:
        await audience.complete()
        yield audience
    finally:
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _watch(
    plane: ScalePlane, stub: TaskServiceAsyncStub, task_id: str, audience: Audience
) -> None:
    # From one fact before the newest: it comes at once, and says that the stream is open.
    newest = (await plane.cell.store.read([task_id]))[0]
    after = 0 if newest is None else newest.sequence - 1
    request = WatchTaskRequest(task_id=task_id, after_sequence=after)
    async for _ in stub.WatchTask(request, metadata=plane.metadata, timeout=10 * TIMEOUT):
        audience.see()


def _told(kind: str, watched: dict[int, Watched], note: Note) -> list[Series]:
    halves = {n: percentile(each.latencies_ms, 0.5) for n, each in watched.items()}
    tails = {n: percentile(each.latencies_ms, 0.95) for n, each in watched.items()}
    costs = {n: each.cpu_us for n, each in watched.items()}
    whom = "a task each" if kind == "own" else "one task"
    for n in watched:
        latency = f"commit called → event seen, {n:,} watching {whom}, p95 {tails[n]:.2f} ms"
        note(f"watch_{kind}_{n}_p50_ms", Figure(halves[n], "ms", latency))
        note(f"watch_{kind}_{n}_cpu_us", Figure(costs[n], "µs", "control's CPU for one event"))
    return [
        Series(f"watch_{kind}_{name}", unit, f"watchers of {whom}", tuple(values.items()))
        for name, unit, values in (
            ("p50_ms", "ms", halves),
            ("p95_ms", "ms", tails),
            ("cpu_us", "µs", costs),
        )
    ]
