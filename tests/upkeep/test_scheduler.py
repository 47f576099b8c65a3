"""Delayed tasks become ready when it is time, and those that waited too long fail."""

from datetime import timedelta

import pytest

from callsheet.ledger.index import Move, Op
from callsheet.ledger.model import NO_TIME, Failure, FailureReason, Task, TaskState
from callsheet.ledger.store import Candidate, Commit
from callsheet.upkeep import expirer, scheduler
from callsheet.upkeep.due import ROUND
from callsheet.upkeep.expirer import Expirer
from callsheet.upkeep.scheduler import Scheduler
from tests.support.ledgers import OWNER, Cell, ping
from tests.support.upkeeping import MOMENT, is_ready, meanwhile, running

HOUR = timedelta(hours=1)


async def test_a_delayed_task_is_made_ready_when_its_time_has_come(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=MOMENT))
    assert not await is_ready(plane, task)
    await Scheduler(plane.writer).run_once()
    assert await is_ready(plane, task)
    assert await plane.store.count(plane.keys.delayed) == 0
    assert await plane.writer.read(task.id) == task
    assert (await running(plane, task)).attempt == 1


async def test_whoever_waits_for_the_queue_is_woken(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=MOMENT))
    await Scheduler(plane.writer).run_once()
    queue = task.submission.queue
    woken = await plane.store.await_wake([queue], timeout=timedelta(seconds=5))
    assert woken == Candidate(0, task.id)


async def test_a_failed_attempt_is_followed_by_another_after_the_backoff(plane: Cell) -> None:
    task = await running(plane)
    failure = Failure(FailureReason.INTERNAL, "broken")
    waiting = await plane.attempts().fail(task, attempt=1, failure=failure)
    # Given that the back-off is over
    due = (Move(Op.ADD, plane.keys.delayed, task.id, 0),)
    await plane.store.commit([Commit(task.id, expected=waiting.sequence, moves=due)])
    await Scheduler(plane.writer).run_once()
    assert (await running(plane, task)).attempt == 2


async def test_a_task_that_is_not_due_stays(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=HOUR))
    await Scheduler(plane.writer).run_once()
    assert not await is_ready(plane, task)
    assert await plane.store.count(plane.keys.delayed) == 1


async def test_a_task_cancelled_while_it_was_looked_at_does_not_come_back(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit expects the sequence that the scheduler saw."""
    task = await plane.ledger.submit(OWNER, ping(delay=MOMENT))
    meanwhile(plane, monkeypatch, lambda: plane.ledger.cancel(OWNER, task.id, reason=""))
    await Scheduler(plane.writer).run_once()
    assert not await is_ready(plane, task)
    assert (await plane.writer.read(task.id)).state is TaskState.CANCELLED


async def test_a_delayed_member_that_stands_for_nothing_is_removed(plane: Cell) -> None:
    task = await running(plane)
    moves = tuple(Move(Op.ADD, plane.keys.delayed, member) for member in (task.id, "gone"))
    await plane.store.commit([Commit(task.id, expected=task.sequence, moves=moves)])
    await Scheduler(plane.writer).run_once()
    assert await plane.store.count(plane.keys.delayed) == 0
    assert not await is_ready(plane, task)


async def test_the_scheduler_rests_until_the_next_task_is_due(plane: Cell) -> None:
    duty = Scheduler(plane.writer)
    assert await duty.run_once() == scheduler.PERIOD
    await plane.ledger.submit(OWNER, ping(delay=HOUR))
    assert await duty.run_once() == scheduler.PERIOD
    await plane.ledger.submit(OWNER, ping(delay=timedelta(milliseconds=400)))
    assert await duty.run_once() < scheduler.PERIOD


async def test_a_full_round_is_followed_by_another_at_once(plane: Cell) -> None:
    await plane.ledger.submit_many(OWNER, [ping(delay=MOMENT)] * (ROUND + 1))
    duty = Scheduler(plane.writer)
    assert await duty.run_once() == NO_TIME
    assert await duty.run_once() == scheduler.PERIOD
    assert await plane.store.count(plane.keys.delayed) == 0


@pytest.mark.parametrize("record", [b"\x08\x63", b"\xff", b"\x08\x01\x20\x63"])
async def test_a_task_that_cannot_be_read_holds_up_nobody(plane: Cell, record: bytes) -> None:
    # Given a due task whose record is from the future, or damaged, and another one behind it
    unreadable = await plane.ledger.submit(OWNER, ping(delay=MOMENT))
    readable = await plane.ledger.submit(OWNER, ping(delay=MOMENT))
    await plane.store.commit([Commit(unreadable.id, expected=1, record=record)])
    # When the scheduler passes
    await Scheduler(plane.writer).run_once()
    # Then the other one is ready, and this one is looked at later
    assert await is_ready(plane, readable)
    assert (await plane.store.due(plane.keys.delayed, limit=10))[1] == []
    assert await plane.store.count(plane.keys.delayed) == 1


async def test_a_task_that_waited_too_long_fails_as_expired(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(expire_after=MOMENT))
    await Expirer(plane.writer).run_once()
    ended = await plane.writer.read(task.id)
    assert ended.state is TaskState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason is FailureReason.EXPIRED
    assert not await is_ready(plane, task)
    assert await plane.store.count(plane.keys.expiring) == 0


async def test_a_delayed_task_expires_too(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=HOUR, expire_after=MOMENT))
    await Expirer(plane.writer).run_once()
    assert (await plane.writer.read(task.id)).state is TaskState.FAILED
    assert await plane.store.count(plane.keys.delayed) == 0


async def test_a_running_task_does_not_expire_and_is_not_looked_at_for_a_while(
    plane: Cell,
) -> None:
    task = await running(plane, await plane.ledger.submit(OWNER, ping(expire_after=MOMENT)))
    assert await Expirer(plane.writer).run_once() == expirer.PERIOD
    assert await plane.writer.read(task.id) == task
    assert (await plane.store.due(plane.keys.expiring, limit=10))[1] == []
    assert await plane.store.count(plane.keys.expiring) == 1


async def test_a_task_that_comes_back_after_its_time_expires(plane: Cell) -> None:
    # Given a task that ran when its time came, and then was handed back
    task = await running(plane, await plane.ledger.submit(OWNER, ping(expire_after=MOMENT)))
    duty = Expirer(plane.writer)
    await duty.run_once()
    back = await plane.attempts().hand_back(task, attempt=1, reason="stopping")
    # When it is looked at again
    due = (Move(Op.ADD, plane.keys.expiring, task.id, 0),)
    await plane.store.commit([Commit(task.id, expected=back.sequence, moves=due)])
    await duty.run_once()
    # Then it fails
    ended: Task = await plane.writer.read(task.id)
    assert ended.failure is not None
    assert ended.failure.reason is FailureReason.EXPIRED
