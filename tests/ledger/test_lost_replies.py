"""Many writers at once, a tenth of whose replies is lost: everything happens exactly once."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.codec import parse_event
from callsheet.ledger.errors import IllegalTransition, LeaseLost
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import NO_TIME, Failure, FailureReason, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate
from callsheet.runtime.redis import connect
from callsheet.upkeep.scheduler import Scheduler
from callsheet.v1.task_event_pb2 import AttemptStarted
from tests.support.cut_proxy import CutProxy, Fate, cut_proxy, lots, sometimes
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.upkeeping import rescuer

TASKS: Final = 120
SUBMITTERS: Final = 3
#: What happens to an attempt; the workers draw lots.
ENDS: Final = ("succeed", "succeed", "succeed", "fail", "hand back", "cancel", "die", "die late")
BROKEN: Final = Failure(FailureReason.OUT_OF_MEMORY, "broken")
QUEUES: Final = ("system",)
#: Longer than the test may take: nothing that runs is rescued.
LONG: Final = timedelta(hours=1)


@dataclass
class Story:
    """What the writers were told."""

    submitted: dict[str, Task] = field(default_factory=dict[str, Task])
    #: (task id, attempt) as often as a claim answered it.
    given: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    final: set[str] = field(default_factory=set[str])

    @property
    def is_over(self) -> bool:
        """Whether every task has ended."""
        return len(self.final) == TASKS


@asynccontextmanager
async def writer(proxy: CutProxy, cell: str) -> AsyncGenerator[Cell, None]:
    """A process of its own, as far as the server can tell."""
    async with connect(proxy.url, max_connections=4) as redis:
        yield redis_cell(RedisConnection(redis, patience=timedelta(seconds=60)), cell)


async def submit(plane: Cell, story: Story, share: int) -> None:
    for number in range(share):
        task = await plane.ledger.submit(OWNER, ping(str(number)))
        story.submitted[task.id] = task


async def work(plane: Cell, story: Story, name: str, draw: Callable[[], str]) -> None:
    """Claim and end attempts until every task is final."""
    hints: tuple[Candidate, ...] = ()
    while not story.is_over:
        end = draw()
        worker = plane.attempts(name, lease=NO_TIME if end.startswith("die") else LONG)
        claims = await worker.claim(count=2, queues=QUEUES, candidates=hints, device="cpu")
        hints = claims.ready
        for task in claims.tasks:
            story.given[task.id, task.attempt] += 1
            if (ended := await live(plane, worker, task, end)) and ended.is_final:
                story.final.add(ended.id)
        if not hints and not claims.tasks:
            await plane.store.await_wake(QUEUES, timeout=timedelta(milliseconds=50))


async def live(plane: Cell, worker: Attempts, task: Task, end: str) -> Task | None:
    """Run the attempt to its end; None: the worker died, or came too late."""
    try:
        match end:
            case "die":
                return None
            case "fail":
                return await worker.fail(task, attempt=task.attempt, failure=BROKEN)
            case "hand back":
                return await worker.hand_back(task, attempt=task.attempt, reason="later")
            case "cancel":
                await plane.ledger.cancel(OWNER, task.id, reason="enough")
                return await worker.confirm_cancel(task, attempt=task.attempt)
            case _:
                return await worker.succeed(
                    task, attempt=task.attempt, output=b"", usage=Usage(tokens=1)
                )
    except (LeaseLost, IllegalTransition):
        return None


async def see_to_it(plane: Cell, story: Story) -> None:
    """Rescue, make ready, and find the tasks that others ended."""
    rescue, schedule = rescuer(plane), Scheduler(plane.writer)
    while not story.is_over:
        await rescue.run_once()
        await schedule.run_once()
        stored = await plane.store.members(plane.keys.final, limit=2 * TASKS)
        story.final |= {task_id for task_id, _ in stored}


async def test_a_tenth_of_all_replies_lost_leaves_no_trace(
    valkey_server: EmbeddedValkey, redis: Redis, cell: str
) -> None:
    # Given writers of every kind, each behind a line that loses replies
    story = Story()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(cut_proxy(valkey_server.url))
        proxy.judge = sometimes(Fate.CUT_AFTER, chance=0.1, seed=7)
        planes = [await stack.enter_async_context(writer(proxy, cell)) for _ in range(7)]
        # When they do their work until every task has ended
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for plane in planes[:SUBMITTERS]:
                group.create_task(submit(plane, story, TASKS // SUBMITTERS))
            for number, plane in enumerate(planes[SUBMITTERS:6]):
                draw = lots(ENDS, seed=number)
                group.create_task(work(plane, story, f"w-{number}", draw))
            group.create_task(see_to_it(planes[6], story))
        assert proxy.troubled > 20
    # Then nothing is missing, and nothing is there twice
    await check(redis_cell(RedisConnection(redis), cell), story)


async def check(plane: Cell, story: Story) -> None:
    project = await plane.store.members(plane.keys.project("default"), limit=2 * TASKS)
    assert {task_id for task_id, _ in project} == set(story.submitted)
    assert len(story.submitted) == TASKS
    entries = await plane.log.after(LOG_START, limit=100 * TASKS, timeout=NO_TIME)
    logged = Counter((each.task_id, parse_event(each.event).sequence) for each in entries)
    assert set(logged.values()) == {1}
    for task_id in story.submitted:
        task = await plane.writer.read(task_id)
        assert task.is_final
        assert await plane.folded(task_id) == task
        facts = await plane.store.facts(task_id, after=0, limit=1000)
        assert [logged[task_id, n + 1] for n in range(len(facts))] == [1] * task.sequence
        events = [parse_event(fact) for fact in facts]
        operations = [each.operation for each in events if not each.HasField("attempt_started")]
        assert len(set(operations)) == len(operations)
        for event in events:
            if event.HasField("attempt_started"):
                check_claim(story, task_id, event.attempt_started)
    for index in (plane.keys.leases, plane.keys.delayed, plane.keys.ready("system")):
        assert await plane.store.count(index) == 0


def check_claim(story: Story, task_id: str, started: AttemptStarted) -> None:
    """No attempt was given twice, or never, but for those that had expired by then."""
    given = story.given[task_id, started.attempt]
    assert given == 1 or (given == 0 and started.lease.ToTimedelta() == NO_TIME)
