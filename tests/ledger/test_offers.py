"""Offers of idle workers: a submission starts its task for one, in the same commit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

from callsheet.ledger import machine
from callsheet.ledger.codec import decode_task, event_of, parse_event, start_template
from callsheet.ledger.index import lease_member
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.registry import Wish
from callsheet.ledger.store import Candidate, Claim, Claimed, Offering, Stored
from tests.support.ledgers import LEASE, OWNER, Cell, ping

SECONDS = 30
STANDS = timedelta(seconds=2)
OPERATION = 500
#: The offer on which a listener finds out that it is heard.
PROBE = 1


def offering(
    worker: str = "w", *, operation: int = OPERATION, known: int = PROBE, lasts: timedelta = STANDS
) -> Offering:
    """Return a new offer of a worker that knows what came of the one before."""
    template = start_template(worker=worker, device="", lease=LEASE, operation=operation)
    return Offering(worker, known, operation, template, lasts)


def look(
    *task_ids: str,
    offering: Offering | None = None,
    queues: tuple[str, ...] = ("system",),
    count: int = 1,
) -> Claim:
    """Return a claim that looks what is ready, and may start the candidates."""
    return Claim(
        count=count,
        lease=LEASE,
        queues=queues,
        window=8,
        template=start_template(worker="w", device="", lease=LEASE, operation=9),
        operation=9,
        candidates=tuple(Candidate(0, task_id) for task_id in task_ids),
        offering=offering,
    )


@asynccontextmanager
async def listening(plane: Cell, worker: str = "w") -> AsyncGenerator[asyncio.Queue[Stored]]:
    """Listen as the worker does; yields what it is told."""
    told: asyncio.Queue[Stored] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(plane.store.handed(worker)) as handed:
            async for stored in handed:
                told.put_nowait(stored)

    task = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(SECONDS):
            # A worker that is not heard yet is not offered anything: try until one is
            while True:
                await plane.store.claim(look(offering=offering(worker, operation=PROBE, known=0)))
                probe = await plane.ledger.submit(OWNER, ping("probe"))
                found = await plane.writer.read(probe.id)
                if found.state is TaskState.RUNNING:
                    await told.get()
                    break
                await plane.store.claim(look(probe.id))
                await asyncio.sleep(0)
            yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_submission_starts_its_task_for_a_worker_that_waits_idle(plane: Cell) -> None:
    """It is the one rule that the claim script follows, and machine.start."""
    async with listening(plane) as told:
        assert (await plane.store.claim(look(offering=offering()))).ready == ()
        pending = await plane.ledger.submit(OWNER, ping())
        stored = await told.get()
        assert stored.task_id == pending.id
    decided = machine.start(pending, worker="w", device="", lease=LEASE)
    record = parse_event(stored.last)
    assert event_of(record) == decided
    assert (record.sequence, record.operation) == (2, OPERATION)
    started = await plane.writer.read(pending.id)
    assert decode_task(stored) == started == await plane.folded(pending.id)
    # It waits nowhere, and its lease stands
    assert await plane.store.count(plane.keys.ready("system")) == 0
    leases = dict(await plane.store.members(plane.keys.leases, limit=10))
    assert leases[lease_member(pending.id, 1)] == record.time + LEASE // timedelta(microseconds=1)
    entries = await plane.log.after(await plane.log.start(), limit=100, timeout=timedelta(0))
    assert [entry.event for entry in entries if entry.task_id == pending.id][1] == stored.last


async def test_an_offer_is_for_one_task(plane: Cell) -> None:
    async with listening(plane) as told:
        await plane.store.claim(look(offering=offering(), count=8))
        first, second = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(2)]
        assert (await told.get()).task_id == first.id
    assert (await plane.writer.read(second.id)).state is TaskState.PENDING
    wake = await plane.store.await_wake(("system",), timeout=STANDS)
    assert wake == Candidate(0, second.id)


async def test_of_a_batch_each_idle_worker_gets_one_and_the_others_wait(plane: Cell) -> None:
    async with listening(plane, "a") as mine, listening(plane, "b") as theirs:
        for worker in "ab":
            offer = offering(worker, operation=ord(worker))
            await plane.store.claim(look(offering=offer))
        batch = [ping(str(n)) for n in range(4)]
        tasks = await plane.ledger.submit_many(OWNER, batch)
        handed = {(await mine.get()).task_id, (await theirs.get()).task_id}
    ready = [name for name, _ in await plane.store.members(plane.keys.ready("system"), limit=9)]
    assert len(handed) == 2
    assert len(ready) == 2
    assert handed | set(ready) == {task.id for task in tasks if isinstance(task, Task)}


async def test_no_offer_is_made_while_something_is_ready(plane: Cell) -> None:
    async with listening(plane) as told:
        waiting = await plane.ledger.submit(OWNER, ping())
        assert (await plane.store.claim(look(offering=offering()))).ready == (
            Candidate(0, waiting.id),
        )
        later = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(later.id)).state is TaskState.PENDING
        assert told.empty()


async def test_no_offer_is_made_without_a_slot_left(plane: Cell) -> None:
    async with listening(plane):
        waiting = await plane.ledger.submit(OWNER, ping())
        await plane.store.claim(look(waiting.id, offering=offering(), count=1))
        later = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(later.id)).state is TaskState.PENDING


async def test_whoever_came_back_ready_is_not_overtaken(plane: Cell) -> None:
    """An urgent task that is ready again goes first, though a worker offers itself."""
    async with listening(plane):
        back = await plane.ledger.submit(OWNER, ping(priority=9))
        claimed = await plane.store.claim(look(back.id, offering=offering(), count=2))
        task = decode_task(claimed.started[0])
        attempts = plane.attempts("w")
        await attempts.hand_back(task, attempt=1, reason="again")
        later = await plane.ledger.submit(OWNER, ping(priority=0))
        assert (await plane.writer.read(later.id)).state is TaskState.PENDING


async def test_an_offer_that_nobody_listens_to_is_passed_over(plane: Cell) -> None:
    await plane.store.claim(look(offering=offering()))
    task = await plane.ledger.submit(OWNER, ping())
    assert (await plane.writer.read(task.id)).state is TaskState.PENDING
    assert await plane.store.count(plane.keys.leases) == 0


async def test_an_offer_runs_out(plane: Cell) -> None:
    async with listening(plane):
        await plane.store.claim(look(offering=offering(lasts=timedelta(0))))
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING


async def test_a_paused_queue_hands_nothing_over(plane: Cell) -> None:
    async with listening(plane):
        await plane.store.claim(look(offering=offering()))
        await plane.store.pause("system")
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING


async def test_a_delayed_task_is_not_handed_over(plane: Cell) -> None:
    async with listening(plane):
        await plane.store.claim(look(offering=offering()))
        task = await plane.ledger.submit(OWNER, ping(delay=timedelta(hours=1)))
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING


async def test_a_withdrawn_offer_is_not_taken(plane: Cell) -> None:
    async with listening(plane):
        await plane.store.claim(look(offering=offering()))
        await plane.store.claim(look(queues=(), count=0, offering=Offering("w", PROBE)))
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING


async def test_the_next_claim_tells_what_was_taken_and_leaves_its_slot(plane: Cell) -> None:
    """Whatever became of the message: nothing is started that nobody knows of."""
    async with listening(plane):
        await plane.store.claim(look(offering=offering(), count=2))
        handed = await plane.ledger.submit(OWNER, ping("handed"))
        others = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(2)]
        claim = look(*(one.id for one in others), offering=offering(operation=501), count=2)
        claimed = await plane.store.claim(claim)
        assert claimed.handed == (OPERATION, handed.id)
        assert [stored.task_id for stored in claimed.started] == [others[0].id]
        # Repeated after a lost reply it says the same
        again = await plane.store.claim(claim)
        assert (again.handed, again.started) == (claimed.handed, claimed.started)


async def test_what_is_known_or_over_is_not_told_again(plane: Cell) -> None:
    async with listening(plane) as told:
        await plane.store.claim(look(offering=offering()))
        await plane.ledger.submit(OWNER, ping())
        task = decode_task(await told.get())

        async def handed(known: int) -> Claimed:
            return await plane.store.claim(look(offering=offering(operation=501, known=known)))

        assert (await handed(OPERATION)).handed is None
        assert (await handed(PROBE)).handed == (OPERATION, task.id)
        attempts = plane.attempts("w")
        await attempts.hand_back(task, attempt=1, reason="done with it")
        assert (await handed(PROBE)).handed is None


async def test_a_worker_that_is_to_pause_is_handed_nothing(plane: Cell) -> None:
    """From the very moment of the wish, though the worker may not have heard of it."""
    async with listening(plane):
        await plane.registry.heartbeat("w", b"")
        await plane.store.claim(look(offering=offering()))
        assert await plane.registry.wish("w", Wish.PAUSE)
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING


async def test_a_worker_that_ended_leaves_no_offer(plane: Cell) -> None:
    async with listening(plane):
        await plane.store.claim(look(offering=offering()))
        await plane.registry.heartbeat("w", b"")
        await plane.registry.forget_worker("w")
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING
