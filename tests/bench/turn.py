"""One contender's turn in one round: everything that is measured of it, on a fresh Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.contender import BulkStack, Caller, Contender, Stack, WorkingStack
from tests.bench.witnessed import PATIENCE

#: Numbers of callers whose accepted submissions are counted.
CALLERS: Final = (1, 16, 64)
#: Numbers of worker processes.
WORKERS: Final = (1, 2)
#: What SubmitTasks takes at most.
BATCH: Final = 1_000
BATCHES: Final = 10
#: Who is slow at them makes fewer.
_BATCHES_SECONDS: Final = 2.0
#: Tasks with which workers are found to be up and warm.
WARM_UP: Final = 64
#: Seconds after which a run that has not ended never will.
STALLED: Final = 120.0
#: As if the next caller came a little later: the worker goes idle in between.
_IDLE_SECONDS: Final = 0.01
_LOOK_SECONDS: Final = 0.004


@dataclass(frozen=True)
class Effort:
    """How much is done in a turn."""

    idle_samples: int = 120
    #: Whoever polls slowly gets fewer samples than that.
    idle_seconds: float = 2.5
    submit_seconds: float = 0.8
    tasks: int = 2_000


#: Enough to see that everything runs.
QUICK: Final = Effort(idle_samples=10, idle_seconds=1.0, submit_seconds=0.2, tasks=200)


@dataclass(frozen=True)
class Turn:
    """What was measured of one contender in one round; empty where it does no such thing."""

    #: Milliseconds from the call to the start of the task's function, on an idle worker.
    idle_ms: tuple[float, ...] = ()
    #: Accepted submissions a second, by the number of callers.
    submits_per_s: Mapping[int, float] = field(default_factory=dict[int, float])
    #: Tasks submitted one by one, run and acknowledged a second, by worker processes.
    tasks_per_s: Mapping[int, float] = field(default_factory=dict[int, float])
    #: Tasks accepted a second by calls of 1,000, one after the other.
    batch_per_s: float | None = None
    #: Tasks submitted by such calls, run and acknowledged a second, by worker processes.
    bulk_tasks_per_s: Mapping[int, float] = field(default_factory=dict[int, float])


async def take_turn(contender: Contender, folder: Path, effort: Effort) -> Turn:
    """Bring the contender up, measure it, and take it down.

    Raises SystemExit when it refuses a task, and TimeoutError when it stands still.
    """
    async with contender.open(folder) as stack:
        idle: tuple[float, ...] = ()
        tasks: dict[int, float] = {}
        bulk: dict[int, float] = {}
        if isinstance(stack, WorkingStack):
            with ExitStack() as workers:
                callers = await stack.callers(contender.in_flight)
                for count in WORKERS:
                    workers.enter_context(stack.worker())
                    await _until_warm(stack, callers, count)
                    idle = idle or await _idle(stack, effort)
                    work = _accepted(callers, effort.tasks)
                    tasks[count] = effort.tasks / await _run(stack, work, effort.tasks)
                    if isinstance(stack, BulkStack):
                        work = _in_bulk(stack, effort.tasks)
                        bulk[count] = effort.tasks / await _run(stack, work, effort.tasks)
        # Nobody works any more: submissions have the cores to themselves.
        submits = {count: await _submit_rate(stack, count, effort) for count in CALLERS}
        batch = await _batch_rate(stack) if isinstance(stack, BulkStack) else None
        return Turn(idle, submits, tasks, batch, bulk)


async def _until_warm(stack: WorkingStack, callers: Sequence[Caller], workers: int) -> None:
    """Return when that many processes have run tasks, and nothing is left to do."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await _run(stack, _accepted(callers, WARM_UP), WARM_UP)
            if len(stack.witnessed.by_process()) >= workers:
                return


async def _idle(stack: WorkingStack, effort: Effort) -> tuple[float, ...]:
    (caller,) = await stack.callers(1)
    waits: list[float] = []
    end = time.monotonic() + effort.idle_seconds
    while len(waits) < effort.idle_samples and time.monotonic() < end:
        called = time.monotonic_ns()
        await caller(timed=True)
        waits.append((await stack.witnessed.moment() - called) / 1e6)
        await asyncio.sleep(_IDLE_SECONDS)
    return tuple(waits)


async def _run(stack: WorkingStack, submitting: Awaitable[None], count: int) -> float:
    """Return the seconds until the last of *count* tasks was run and acknowledged."""
    target = stack.witnessed.ran() + count
    start = time.perf_counter()
    await submitting
    async with asyncio.timeout(STALLED):
        while True:
            # The broker goes last: it has nothing left only after everything was run.
            if stack.witnessed.ran() >= target and not await stack.unfinished():
                break
            await asyncio.sleep(_LOOK_SECONDS)
    return time.perf_counter() - start


async def _accepted(callers: Sequence[Caller], count: int) -> None:
    remaining = iter(range(count))

    async def call(caller: Caller) -> None:
        for _ in remaining:
            await caller()

    await asyncio.gather(*map(call, callers))


async def _in_bulk(stack: BulkStack, count: int) -> None:
    for start in range(0, count, BATCH):
        await stack.submit_many(min(BATCH, count - start))


async def _submit_rate(stack: Stack, count: int, effort: Effort) -> float:
    callers = await stack.callers(count)
    # The first call of a connection sets things up on both sides.
    await _accepted(callers, 2 * count)
    start = time.perf_counter()
    end = start + effort.submit_seconds

    async def call(caller: Caller) -> int:
        calls = 0
        while time.perf_counter() < end:
            await caller()
            calls += 1
        return calls

    calls = sum(await asyncio.gather(*map(call, callers)))
    return calls / (time.perf_counter() - start)


async def _batch_rate(stack: BulkStack) -> float:
    start = time.perf_counter()
    done = 0
    while done < BATCHES and time.perf_counter() - start < _BATCHES_SECONDS:
        await stack.submit_many(BATCH)
        done += 1
    return done * BATCH / (time.perf_counter() - start)
