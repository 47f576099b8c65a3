"""Dramatiq on the ledger's queues."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol, cast

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.errors import QueueNotFound
from redis.asyncio import Redis

from callsheet.broker.broker import LedgerBroker, SendingUnavailable
from callsheet.broker.claimer import Claimer
from callsheet.broker.feed import QUEUE, Feed
from callsheet.broker.slots import Slots
from callsheet.broker.submitter import Submitter
from callsheet.broker.task_actors import declare_actors
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate, Claim, Claimed, Store
from callsheet.ledger.writer import Writer
from callsheet.tasks.v1.ping_pb2 import PingInput
from tests.support.ledgers import OWNER, Cell, ping, redis_cell

SECONDS = 30


@pytest.fixture
def plane(redis: Redis, cell: str) -> Cell:
    return redis_cell(RedisConnection(redis), cell)


class Sends(Protocol):
    """As much of an actor as tests call."""

    def send(self, input: object) -> object: ...

    def send_with_options(self, *, args: tuple[object, ...], delay: timedelta) -> object: ...


def ping_of(broker: LedgerBroker) -> Sends:
    actor = broker.get_actor("ping")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # Dramatiq leaves what actors return untyped
    return cast("Sends", actor)


def refused(task_type: str, input: object, delay: timedelta) -> str:
    raise AssertionError(f"{task_type} was submitted with {input} after {delay}")


def ignored(task_id: str, attempt: int) -> None:
    del task_id, attempt


def as_they_come(candidates: Sequence[Candidate]) -> list[Candidate]:
    return list(candidates)


@asynccontextmanager
async def claiming(
    plane: Cell, slots: Slots, *, worker: str = "w"
) -> AsyncGenerator[asyncio.Queue[Task]]:
    """Claim for the slots; yields the queue of what was claimed."""
    claimed: asyncio.Queue[Task] = asyncio.Queue()

    def deliver(tasks: Sequence[Task]) -> None:
        for task in tasks:
            claimed.put_nowait(task)

    claimer = Claimer(
        plane.attempts(worker),
        plane.store,
        slots,
        queues=("system",),
        device="",
        deliver=deliver,
        shuffle=as_they_come,
    )
    running = asyncio.create_task(claimer.run())
    try:
        async with asyncio.timeout(SECONDS):
            yield claimed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_claimer_takes_what_it_has_room_for_and_never_more(plane: Cell) -> None:
    # Given five tasks and two slots
    tasks = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(5)]
    slots = Slots(2)
    async with claiming(plane, slots) as claimed:
        # When both slots are taken, then nothing more is claimed
        assert [(await claimed.get()).id for _ in range(2)] == [task.id for task in tasks[:2]]
        assert slots.free == 0
        assert await plane.store.count(plane.keys.leases) == 2
        # When one is free again, then exactly one more is
        slots.release()
        assert (await claimed.get()).id == tasks[2].id
        assert await plane.store.count(plane.keys.leases) == 3
        assert claimed.empty()


async def test_a_claimer_wakes_on_a_submission(plane: Cell) -> None:
    async with claiming(plane, Slots(1)) as claimed:
        task = await plane.ledger.submit(OWNER, ping())
        assert (await claimed.get()).id == task.id


async def test_an_urgent_task_overtakes_those_that_were_seen_ready_before(plane: Cell) -> None:
    """Hints of a claim from long ago must not hide what came since."""
    for n in range(4):
        await plane.ledger.submit(OWNER, ping(str(n)))
    slots = Slots(1)
    async with claiming(plane, slots) as claimed:
        await claimed.get()
        urgent = await plane.ledger.submit(OWNER, ping("urgent", priority=9))
        # The slot stays taken for longer than hints are believed.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(claimed.get(), timeout=0.2)
        slots.release()
        assert (await claimed.get()).id == urgent.id


async def test_two_claimers_never_get_the_same_attempt(plane: Cell) -> None:
    tasks = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(20)]
    async with (
        claiming(plane, Slots(20), worker="a") as mine,
        claiming(plane, Slots(20), worker="b") as theirs,
    ):
        taken: list[str] = []
        while len(taken) < len(tasks):
            getting = [asyncio.create_task(mine.get()), asyncio.create_task(theirs.get())]
            done, pending = await asyncio.wait(getting, return_when=asyncio.FIRST_COMPLETED)
            for waiting in pending:
                waiting.cancel()
            taken += (done_one.result().id for done_one in done)
    assert sorted(taken) == sorted(task.id for task in tasks)


async def test_a_cancelled_claimer_delivers_what_it_had_started(plane: Cell) -> None:
    """Otherwise a stopping worker would leave attempts behind that nobody runs."""
    tasks = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(8)]
    for _ in range(8):
        async with claiming(plane, Slots(1)) as claimed:
            await asyncio.sleep(0)
        if not claimed.empty():
            claimed.get_nowait()
        leased = await plane.store.count(plane.keys.leases)
        running = [
            task for task in tasks if (await plane.writer.read(task.id)).state is TaskState.RUNNING
        ]
        assert len(running) == leased


class SlowStore:
    """The plane's store, whose claims are answered only when the test says so."""

    def __init__(self, plane: Cell) -> None:
        self._store = plane.store
        self.may_answer = asyncio.Event()
        self.claimed = asyncio.Event()

    async def claim(self, claim: Claim) -> Claimed:
        claimed = await self._store.claim(claim)
        if claim.candidates:
            self.claimed.set()
            await self.may_answer.wait()
        return claimed

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_claim_on_its_way_is_delivered_however_often_its_claimer_is_cancelled(
    plane: Cell,
) -> None:
    # Given a claim that has started an attempt, and is not answered yet
    task = await plane.ledger.submit(OWNER, ping())
    slow = SlowStore(plane)
    store = cast("Store", slow)
    writer = Writer(store, plane.keys, RandomIds(), retention=timedelta(days=2))
    attempts = Attempts(writer, plane.log, plane.catalog, worker="w", lease=timedelta(seconds=15))
    delivered: list[str] = []
    claimer = Claimer(
        attempts,
        store,
        Slots(1),
        queues=("system",),
        device="",
        deliver=lambda tasks: delivered.extend(task.id for task in tasks),
        shuffle=as_they_come,
    )
    running = asyncio.create_task(claimer.run())
    await asyncio.wait_for(slow.claimed.wait(), SECONDS)
    # When the claimer is cancelled again and again
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    slow.may_answer.set()
    await asyncio.wait({running}, timeout=SECONDS)
    # Then somebody knows of the attempt all the same
    assert delivered == [task.id]


def test_slots_are_never_oversold() -> None:
    slots = Slots(1)
    slots.take(1)
    with pytest.raises(ValueError, match="0 are free"):
        slots.take(1)
    slots.release()
    with pytest.raises(ValueError, match="no slot is taken"):
        slots.release()


def test_each_task_type_has_one_actor_and_dramatiq_runs_it() -> None:
    # Given a Dramatiq worker on the broker
    ran: list[tuple[str, int, str]] = []
    done = threading.Event()
    feed = Feed(unused=ignored)
    broker = LedgerBroker(feed)

    def perform(task_id: str, attempt: int) -> None:
        ran.append((task_id, attempt, threading.current_thread().name))
        done.set()

    declare_actors(broker, ["ping", "generate_image"], perform)
    assert broker.get_declared_actors() == {"ping", "generate_image"}
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        # When an attempt is fed to it
        feed.put([("ping", "t-1", 3)])
        # Then its actor runs in one of its threads
        assert done.wait(SECONDS)
        assert ran[0][:2] == ("t-1", 3)
        assert ran[0][2] != threading.main_thread().name
    finally:
        worker.stop(timeout=5_000)


def test_attempts_spare_the_consumers_thread_once_it_has_looked() -> None:
    handled: list[str] = []
    feed = Feed(unused=ignored)
    feed.shorten(lambda message: handled.append(message.message_id))
    # Before, whoever acknowledges may not be there yet
    feed.put([("ping", "t-1", 1)])
    assert handled == []
    first = feed.take(timeout=timedelta(seconds=SECONDS))
    assert first is not None
    assert first.message_id == "t-1/1"
    feed.put([("ping", "t-2", 1), ("ping", "t-3", 2)], idle=True)
    assert handled == ["t-2/1", "t-3/2"]
    assert feed.take(timeout=timedelta(0)) is None


def test_attempts_that_no_thread_took_are_given_back() -> None:
    unused: list[tuple[str, int]] = []
    feed = Feed(unused=lambda task_id, attempt: unused.append((task_id, attempt)))
    broker = LedgerBroker(feed)
    feed.put([("ping", "t-1", 1), ("ping", "t-2", 1)])
    consumer = broker.consume(QUEUE, timeout=10)
    taken = next(consumer)
    assert taken is not None
    consumer.requeue([taken])
    feed.drain()
    assert unused == [("t-1", 1), ("t-2", 1)]
    assert next(consumer) is None


def test_an_undeclared_queue_is_refused() -> None:
    with pytest.raises(QueueNotFound):
        LedgerBroker(Feed(unused=ignored)).consume("nobody")


async def test_send_submits_a_task(plane: Cell) -> None:
    submit = Submitter(plane.ledger, OWNER, asyncio.get_running_loop())
    broker = LedgerBroker(Feed(unused=ignored), submit=submit)
    declare_actors(broker, plane.catalog, ignored)
    actor = ping_of(broker)
    sent = cast("Message[None]", await asyncio.to_thread(actor.send, PingInput(echo="hello")))
    task = (await plane.ledger.get(OWNER, sent.message_id)).task
    assert task.submission.task_type == "ping"
    assert task.state is TaskState.PENDING
    hour = timedelta(hours=1)
    sending = asyncio.to_thread(actor.send_with_options, args=(PingInput(),), delay=hour)
    later = cast("Message[None]", await sending)
    delayed = (await plane.ledger.get(OWNER, later.message_id)).task
    assert delayed.submission.delay == hour


def test_send_takes_one_input_message_only() -> None:
    broker = LedgerBroker(Feed(unused=ignored), submit=refused)
    declare_actors(broker, ["ping"], ignored)
    with pytest.raises(TypeError, match="one input message"):
        ping_of(broker).send("hello")


def test_a_broker_that_only_runs_attempts_does_not_send() -> None:
    broker = LedgerBroker(Feed(unused=ignored))
    declare_actors(broker, ["ping"], ignored)
    with pytest.raises(SendingUnavailable):
        ping_of(broker).send(PingInput())
