"""What becomes of tasks whose workers are lost."""

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.errors import LeaseLost, LedgerUnavailable
from callsheet.ledger.index import Move, Op, lease_member
from callsheet.ledger.model import NO_TIME, FailureReason, Task, TaskState, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Commit
from callsheet.runtime.redis import connect
from callsheet.upkeep.due import ROUND
from callsheet.upkeep.hold_off import HoldOff
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.upkeeping import is_ready, meanwhile, rescuer, running

SHORT = timedelta(milliseconds=300)
HOUR = timedelta(hours=1)


async def test_a_task_whose_worker_was_lost_is_ready_again(plane: Cell) -> None:
    task = await running(plane, lease=NO_TIME)
    await rescuer(plane).run_once()
    rescued = await plane.writer.read(task.id)
    assert (rescued.state, rescued.attempt, rescued.failures) == (TaskState.PENDING, 1, 1)
    assert rescued.ended_attempts[0].failure.reason is FailureReason.WORKER_LOST
    assert "worker-1" in rescued.ended_attempts[0].failure.message
    assert await is_ready(plane, task)
    assert await plane.store.count(plane.keys.leases) == 0
    assert await plane.folded(task.id) == rescued


async def test_a_task_whose_lease_stands_is_left_alone(plane: Cell) -> None:
    task = await running(plane)
    await rescuer(plane).run_once()
    assert await plane.writer.read(task.id) == task


async def test_the_worker_that_comes_back_too_late_cannot_finish(plane: Cell) -> None:
    task = await running(plane, lease=NO_TIME)
    await rescuer(plane).run_once()
    with pytest.raises(LeaseLost):
        await plane.attempts().succeed(task, attempt=1, output=b"", usage=Usage())
    assert await plane.attempts().renew([(task.id, 1)]) == [0]


async def test_a_task_that_kills_every_worker_fails_as_poison(plane: Cell) -> None:
    task = await running(plane, lease=NO_TIME)
    for attempt in range(2, task.submission.max_attempts + 1):
        await rescuer(plane).run_once()
        assert (await running(plane, task, lease=NO_TIME)).attempt == attempt
    await rescuer(plane).run_once()
    ended = await plane.writer.read(task.id)
    assert ended.state is TaskState.FAILED
    assert ended.failure is not None
    assert ended.failure.reason is FailureReason.POISON
    assert await plane.store.count(plane.keys.leases) == 0
    assert not await is_ready(plane, task)


async def test_a_task_asked_to_stop_whose_worker_was_lost_is_cancelled(plane: Cell) -> None:
    task = await running(plane, lease=NO_TIME)
    await plane.ledger.cancel(OWNER, task.id, reason="enough")
    await rescuer(plane).run_once()
    ended = await plane.writer.read(task.id)
    assert (ended.state, ended.cancel_reason) == (TaskState.CANCELLED, "enough")


async def test_more_leases_than_one_round_holds_are_all_given_up(plane: Cell) -> None:
    for task in await plane.ledger.submit_many(OWNER, [ping()] * (ROUND + 9)):
        assert isinstance(task, Task)
        await running(plane, task, lease=NO_TIME)
    duty = rescuer(plane)
    assert await duty.run_once() == NO_TIME
    await duty.run_once()
    assert await plane.store.count(plane.keys.leases) == 0


async def test_a_lease_that_stands_for_nothing_is_removed(plane: Cell) -> None:
    """Of a task that is gone, or that has moved on: it would be seen for ever."""
    task = await running(plane)
    stale = [lease_member("gone", 1), lease_member(task.id, 7)]
    moves = tuple(Move(Op.ADD, plane.keys.leases, member) for member in stale)
    await plane.store.commit([Commit(task.id, expected=task.sequence, moves=moves)])
    with capture_logs() as logs:
        await rescuer(plane).run_once()
    removed = [line["lease"] for line in logs if line["event"] == "stale_lease_removed"]
    assert sorted(removed) == sorted(stale)
    left = await plane.store.members(plane.keys.leases, limit=10)
    assert [member for member, _ in left] == [lease_member(task.id, 1)]
    assert await plane.writer.read(task.id) == task


async def test_an_outage_of_the_server_burns_no_attempt(tmp_path: Path, cell: str) -> None:
    with EmbeddedValkey(tmp_path) as server:
        async with connect(server.url, max_connections=4) as redis:
            plane = redis_cell(RedisConnection(redis), cell)
            hold_off = HoldOff(SHORT)
            duty = rescuer(plane, hold_off)
            # Given two running tasks, and a server that was away for longer than their leases
            back, gone = [await running(plane, lease=NO_TIME) for _ in range(2)]
            server.kill()
            with pytest.raises(LedgerUnavailable):
                await duty.run_once()
            server.start()
            # When one of the workers comes back within the hold-off
            await duty.run_once()
            renewed = plane.attempts(lease=HOUR)
            assert await renewed.renew([(back.id, 1)]) == [back.sequence]

            # Then only the other one is given up, once the hold-off is over
            async def is_given_up() -> bool:
                await duty.run_once()
                return (await plane.writer.read(gone.id)).state is TaskState.PENDING

            await eventually(is_given_up)
            assert await plane.writer.read(back.id) == back
            await renewed.succeed(back, attempt=1, output=b"", usage=Usage())


async def test_a_lease_renewed_while_it_was_looked_at_stands(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal does not move the sequence: only the guard knows of it."""
    task = await running(plane, lease=NO_TIME)
    meanwhile(plane, monkeypatch, lambda: plane.attempts(lease=HOUR).renew([(task.id, 1)]))
    await rescuer(plane).run_once()
    assert await plane.writer.read(task.id) == task


async def test_an_attempt_that_ended_while_it_was_looked_at_stays_ended(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await running(plane, lease=NO_TIME)
    worker = plane.attempts()
    meanwhile(
        plane, monkeypatch, lambda: worker.succeed(task, attempt=1, output=b"", usage=Usage())
    )
    await rescuer(plane).run_once()
    assert (await plane.writer.read(task.id)).state is TaskState.SUCCEEDED
