"""Leases of running attempts: kept while they stand, and given up at once when they are lost."""

from callsheet.broker.slots import Slots
from callsheet.ledger.attempts import Attempts
from callsheet.worker.lease_keeper import LeaseKeeper
from callsheet.worker.running import Running, RunningAttempts, StopCause
from tests.support.ledgers import OWNER, Cell, memory_cell, ping
from tests.support.work import started


async def under_way(plane: Cell) -> tuple[Attempts, LeaseKeeper, Running]:
    """Start an attempt, and return it with whoever keeps its lease."""
    task = await plane.ledger.submit(OWNER, ping())
    attempts, task = await started(plane, task.id)
    all_running, slots = RunningAttempts(), Slots(1)
    slots.take(1)
    running = Running(task, plane.catalog["ping"], slots)
    all_running.add(running)
    return attempts, LeaseKeeper(attempts, plane.store, all_running), running


async def test_an_attempt_whose_lease_stands_goes_on() -> None:
    _, keeper, running = await under_way(memory_cell())
    await keeper.renew()
    assert running.cause is None


async def test_an_attempt_whose_lease_was_lost_is_stopped() -> None:
    """The task waits again, for any worker: this one must not go on with it."""
    attempts, keeper, running = await under_way(memory_cell())
    await attempts.hand_back(running.task, attempt=running.attempt, reason="taken away")
    await keeper.renew()
    assert running.cause is StopCause.LEASE_LOST


async def test_an_outcome_on_its_way_is_left_to_the_ledger() -> None:
    """It ends the lease itself, so that a lease that is gone tells nothing."""
    attempts, keeper, running = await under_way(memory_cell())
    running.concluding = True
    await attempts.hand_back(running.task, attempt=running.attempt, reason="recorded")
    await keeper.renew()
    assert running.cause is None
