"""Claimers that offer themselves: nothing is lost, doubled or oversold by it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.asyncio import Redis

from callsheet.broker.claimer import Claimer
from callsheet.broker.gate import Gate
from callsheet.broker.slots import Slots
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate, Claim, Claimed, Store, Stored
from callsheet.ledger.writer import Writer
from tests.support.ledgers import LEASE, OWNER, RETENTION, Cell, ping, redis_cell

SECONDS = 30


@pytest.fixture
def plane(redis: Redis, cell: str) -> Cell:
    return redis_cell(RedisConnection(redis), cell)


class WatchedStore:
    """The plane's store: tells of each claim's candidates, and may keep what is handed over."""

    def __init__(self, plane: Cell, *, is_deaf: bool = False) -> None:
        self._store = plane.store
        self._is_deaf = is_deaf
        #: For each claim, how many candidates it named.
        self.claims: list[int] = []
        self.claimed = asyncio.Condition()
        self.offered = asyncio.Event()

    async def claim(self, claim: Claim) -> Claimed:
        claimed = await self._store.claim(claim)
        async with self.claimed:
            self.claims.append(len(claim.candidates))
            self.claimed.notify_all()
        if claim.offering is not None and claim.offering.template and not claimed.ready:
            self.offered.set()
        return claimed

    async def handed(self, worker: str) -> AsyncGenerator[Stored, None]:
        async for stored in self._store.handed(worker):
            if not self._is_deaf:
                yield stored

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@asynccontextmanager
async def offering(
    plane: Cell, store: WatchedStore, slots: Slots, *, gate: Gate | None = None
) -> AsyncGenerator[asyncio.Queue[Task]]:
    """Claim for the slots, and offer them; yields the queue of what was delivered."""
    delivered: asyncio.Queue[Task] = asyncio.Queue()

    def deliver(tasks: Sequence[Task]) -> None:
        for task in tasks:
            delivered.put_nowait(task)

    watched = cast("Store", store)
    writer = Writer(watched, plane.keys, RandomIds(), retention=RETENTION)
    claimer = Claimer(
        Attempts(writer, plane.log, plane.catalog, worker="w", lease=LEASE),
        watched,
        slots,
        queues=("system",),
        device="",
        deliver=deliver,
        shuffle=list[Candidate],
        gate=gate,
        offers_itself=True,
    )
    running = asyncio.create_task(claimer.run())
    try:
        async with asyncio.timeout(SECONDS):
            yield delivered
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def heard(
    plane: Cell, store: WatchedStore, slots: Slots, delivered: asyncio.Queue[Task]
) -> Task:
    """Submit until a task was started by its own submission, and return that one.

    It has a slot; those before are over, as far as slots go.
    """
    while True:
        await store.offered.wait()
        task = await plane.ledger.submit(OWNER, ping())
        handed = (await plane.store.facts(task.id, after=0, limit=2))[1:] != []
        assert (await delivered.get()).id == task.id
        if handed:
            return task
        slots.release()


async def test_an_idle_claimer_gets_its_tasks_without_a_claim(plane: Cell) -> None:
    store, slots = WatchedStore(plane), Slots(8)
    async with offering(plane, store, slots) as delivered:
        await heard(plane, store, slots, delivered)
        named = sum(store.claims)
        for _ in range(5):
            store.offered.clear()
            await store.offered.wait()
            await plane.ledger.submit(OWNER, ping())
            await delivered.get()
        # No claim had to name any of them
        assert sum(store.claims) == named
    assert slots.busy == 6


async def test_offers_never_oversell_slots(plane: Cell) -> None:
    """A claim on its way and a task that is handed over meanwhile share what is free."""
    store, slots = WatchedStore(plane), Slots(3)
    async with offering(plane, store, slots) as delivered:
        await heard(plane, store, slots, delivered)
        for _ in range(40):
            slots.release()
            await asyncio.gather(*(plane.ledger.submit(OWNER, ping()) for _ in range(2)))
            await delivered.get()
        # As many run as have a slot; the others wait
        while slots.free or not delivered.empty():
            await delivered.get()
        waiting = await plane.store.count(plane.keys.ready("system"))
        assert waiting == 80 - 40 - (slots.total - 1)


async def test_what_a_broken_link_swallowed_is_delivered_by_the_next_claim(plane: Cell) -> None:
    store, slots = WatchedStore(plane, is_deaf=True), Slots(8)
    async with offering(plane, store, slots) as delivered:
        # Started by its submission, and not told: the claim that follows its sleep tells
        task = await heard(plane, store, slots, delivered)
        assert (await plane.writer.read(task.id)).attempt == 1
        assert delivered.empty()


async def test_a_claimer_that_ends_leaves_nothing_started_that_nobody_knows_of(
    plane: Cell,
) -> None:
    for _ in range(8):
        store, slots = WatchedStore(plane), Slots(2)
        async with offering(plane, store, slots) as delivered:
            await heard(plane, store, slots, delivered)
            submitting = asyncio.create_task(plane.ledger.submit(OWNER, ping()))
            await asyncio.sleep(0)
        task = await submitting
        known = {delivered.get_nowait().id for _ in range(delivered.qsize())}
        state = (await plane.writer.read(task.id)).state
        assert (state is TaskState.RUNNING) == (task.id in known)
        await plane.ledger.cancel(OWNER, task.id, reason="next round")


async def test_behind_a_shut_gate_nothing_is_offered(plane: Cell) -> None:
    store, slots, gate = WatchedStore(plane), Slots(2), Gate()
    async with offering(plane, store, slots, gate=gate) as delivered:
        await heard(plane, store, slots, delivered)
        store.offered.clear()
        await store.offered.wait()
        before = len(store.claims)
        gate.shut()
        # The offer is withdrawn, by a claim that looks at no queue
        async with store.claimed:
            await store.claimed.wait_for(lambda: len(store.claims) > before)
        task = await plane.ledger.submit(OWNER, ping())
        assert (await plane.writer.read(task.id)).state is TaskState.PENDING
        gate.open()
        assert (await delivered.get()).id == task.id
