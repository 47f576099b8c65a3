"""What one operation costs with 10³ to 10⁶ tasks queued, or stored. All of it must stay flat.

Each size has a server of its own, all of them up at once, and the sizes take turns in every round:
so the largest is compared with the smallest as both were a moment ago.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from callsheet.ledger.redis_cell import RedisCell
from callsheet.ledger.store import Candidate
from callsheet.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_SUCCEEDED,
    TASK_STATE_UNSPECIFIED,
    TaskState,
)
from callsheet.v1.task_service_pb2 import GetTaskRequest, ListTasksRequest
from tests.bench.measure import TIMEOUT, Figure, Note
from tests.bench.scale_filling import Copier, copier, never_rewrites
from tests.bench.scale_plane import QUEUE, ScalePlane, ping, scale_plane
from tests.bench.scale_series import (
    Series,
    in_rounds,
    microseconds_a_call,
    power,
    ratio_in_rounds,
)

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 5
#: As many rounds more for claims: they take little time, and their growth has a bar.
CLAIM_ROUNDS: Final = 3
#: Calls of each kind in one round.
CALLS: Final = 40
PAGE_SIZE: Final = 50
#: What a caller sends for one operation; what a script does is in the script's own time.
_COMMANDS: Final = ("evalsha", "eval", "zrange", "zrank")

Call = Callable[[], Awaitable[object]]


class Cost(NamedTuple):
    """What one operation takes of the server, and how long its caller waits."""

    server_us: float
    caller_ms: float


#: What each operation cost at each size.
Round = Mapping[str, Mapping[int, Cost]]


class Site(Protocol):
    """A server that holds so many tasks, and what is measured there."""

    size: int

    async def fill(self) -> None:
        """Bring it to its size."""
        ...

    async def costs(self, calls: int) -> dict[str, Cost]:
        """Measure each operation by so many calls; leave as many tasks as there were."""
        ...


class Queued:
    """So many tasks in one ready set."""

    def __init__(self, plane: ScalePlane, source: Copier, size: int) -> None:
        self.size = size
        self._cell = plane.cell
        self._copier = source
        self._worker = plane.worker()

    async def fill(self) -> None:
        """Queue what is missing; the original is one of them."""
        await self._copier.copy(self.size - await self._cell.store.count(_ready(self._cell)))

    async def costs(self, calls: int) -> dict[str, Cost]:
        """Measure claims as a worker with one free slot makes them: each by the hints of the last.

        What was claimed stays with its attempt, and is replaced.
        """
        hints = await self._worker.look()

        async def claim() -> None:
            nonlocal hints
            hints = await self._claimed_one_of(hints)

        cost = await _cost(self._cell, [claim] * calls)
        await self.fill()
        return {"claim": cost}

    async def _claimed_one_of(self, hints: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        attempts = self._worker.attempts
        claims = await attempts.claim(count=1, queues=(QUEUE,), candidates=hints, device="")
        if len(claims.tasks) != 1:
            raise SystemExit(f"a claim started {len(claims.tasks)} attempts")
        return claims.ready


class Stored:
    """So many tasks that have succeeded, behind a control plane."""

    def __init__(
        self, plane: ScalePlane, stub: TaskServiceAsyncStub, source: Copier, size: int
    ) -> None:
        self.size = size
        self._plane = plane
        self._stub = stub
        self._copier = source
        self._worker = plane.worker()
        self._ids: list[str] = []
        self._chance = random.Random(size)  # noqa: S311  # which tasks are read is no secret

    async def fill(self) -> None:
        """Store what is missing; the original is one of them."""
        self._ids = await self._copier.copy(self.size - 1)

    async def costs(self, calls: int) -> dict[str, Cost]:
        """Measure reads of what was stored, and writes that add a few tasks to it."""
        found = {
            "list": await self._cost([lambda: self._page(PAGE_SIZE)] * calls),
            "list_succeeded": await self._cost(
                [lambda: self._page(PAGE_SIZE, TASK_STATE_SUCCEEDED)] * calls
            ),
            "list_nothing": await self._cost([lambda: self._page(0, TASK_STATE_FAILED)] * calls),
            "get": await self._cost([self._get_any] * calls),
        }
        submitted: list[str] = []
        found["submit"] = await self._cost([lambda: self._submit(submitted)] * calls)
        tasks = iter(await self._worker.claim(*submitted))
        found["commit"] = await self._cost([lambda: self._worker.succeed(next(tasks))] * calls)
        return found

    async def _cost(self, calls: Sequence[Call]) -> Cost:
        return await _cost(self._plane.cell, calls)

    async def _page(
        self, expected: int, state: TaskState.ValueType = TASK_STATE_UNSPECIFIED
    ) -> None:
        request = ListTasksRequest(page_size=PAGE_SIZE, state=state)
        answer = await self._stub.ListTasks(request, metadata=self._plane.metadata, timeout=TIMEOUT)
        if len(answer.tasks) != expected:
            raise SystemExit(f"a page has {len(answer.tasks)} tasks, not {expected}")

    async def _get_any(self) -> None:
        request = GetTaskRequest(task_id=self._chance.choice(self._ids))
        answer = await self._stub.GetTask(request, metadata=self._plane.metadata, timeout=TIMEOUT)
        if answer.task.state != TASK_STATE_SUCCEEDED:
            raise SystemExit(f"a stored task is {answer.task}")

    async def _submit(self, submitted: list[str]) -> None:
        answer = await self._stub.SubmitTask(ping(), metadata=self._plane.metadata, timeout=TIMEOUT)
        submitted.append(answer.task.id)


async def growth_figures(
    folder: Path,
    note: Note,
    *,
    sizes: Sequence[int] = SIZES,
    rounds: int = ROUNDS,
    calls: int = CALLS,
) -> list[Series]:
    """Measure claims by what is queued, and everything else by what is stored."""
    async with AsyncExitStack() as stack:
        queued: list[Site] = [
            await stack.enter_async_context(_queued(folder / f"queued{n}", n)) for n in sizes
        ]
        # Servers before clients: gRPC's threads and forks do not go together.
        planes = [
            await stack.enter_async_context(scale_plane(folder / f"stored{n}", "control"))
            for n in sizes
        ]
        stored: list[Site] = [
            await stack.enter_async_context(_stored(plane, n))
            for plane, n in zip(planes, sizes, strict=True)
        ]
        await asyncio.gather(*(site.fill() for site in (*queued, *stored)))
        claims = await _rounds(queued, CLAIM_ROUNDS * rounds, calls)
        others = await _rounds(stored, rounds, calls)
    return [*_told(claims, note), *_told(others, note)]


@asynccontextmanager
async def _queued(folder: Path, size: int) -> AsyncGenerator[Queued]:
    async with scale_plane(folder) as plane:
        await never_rewrites(plane.cell)
        task = await plane.accept()
        yield Queued(plane, await copier(plane.cell, task.id), size)


@asynccontextmanager
async def _stored(plane: ScalePlane, size: int) -> AsyncGenerator[Stored]:
    await never_rewrites(plane.cell)
    worker, task = plane.worker(), await plane.accept()
    await worker.succeed((await worker.claim(task.id))[0])
    async with plane.client() as stub:
        yield Stored(plane, stub, await copier(plane.cell, task.id), size)


async def _rounds(sites: Sequence[Site], count: int, calls: int) -> list[Round]:
    # What is paid once, such as sending a script, counts for no size.
    await _round(sites, calls)
    # Up and down in turns: what the order does to a size, it does to the others too.
    orders = itertools.islice(itertools.cycle((sites, sites[::-1])), count)
    return [await _round(order, calls) for order in orders]


async def _round(sites: Sequence[Site], calls: int) -> Round:
    found: dict[str, dict[int, Cost]] = {}
    for site in sites:
        for operation, cost in (await site.costs(calls)).items():
            found.setdefault(operation, {})[site.size] = cost
    return found


async def _cost(cell: RedisCell, calls: Sequence[Call]) -> Cost:
    """Make the calls one after the other."""
    await cell.connection.command("CONFIG", "RESETSTAT")
    waits: list[float] = []
    for call in calls:
        start = time.perf_counter()
        await call()
        waits.append(time.perf_counter() - start)
    reply = await cell.connection.command("INFO", "commandstats", "latencystats")
    counts = cast("Mapping[str, Mapping[str, float]]", reply)
    return Cost(microseconds_a_call(counts, _COMMANDS, len(calls)), 1e3 * median(waits))


def _told(found: Sequence[Round], note: Note) -> list[Series]:
    """Note how much the largest size costs by the smallest, and return the lines between them."""
    lines: list[Series] = []
    for operation, costs in found[0].items():
        server = [{n: cost.server_us for n, cost in each[operation].items()} for each in found]
        caller = [{n: cost.caller_ms for n, cost in each[operation].items()} for each in found]
        held = "queued" if operation == "claim" else "stored"
        in_server = Series(f"{operation}_server_us", "µs", f"tasks {held}", in_rounds(server))
        at_caller = Series(f"{operation}_p50_ms", "ms", f"tasks {held}", in_rounds(caller))
        lines += (in_server, at_caller)
        low, high = min(costs), max(costs)
        ratio = ratio_in_rounds(server)
        against = (
            f"server {in_server.points[0][1]:.1f} → {in_server.points[-1][1]:.1f} µs, "
            f"caller p50 {at_caller.points[0][1]:.2f} → {at_caller.points[-1][1]:.2f} ms"
            + (", bar 1.3" if operation == "claim" else "")
        )
        name = f"{operation}_cost_{power(high)}_vs_{power(low)}"
        note(name, Figure(ratio, "times", against))
    return lines


def _ready(cell: RedisCell) -> str:
    return cell.keys.ready(QUEUE)
