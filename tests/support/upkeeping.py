"""Tasks brought into the states that upkeep has to see to."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import pytest

from callsheet.ledger.model import Task
from callsheet.ledger.store import Candidate, Stored
from callsheet.upkeep.hold_off import HoldOff
from callsheet.upkeep.rescuer import Rescuer
from tests.support.ledgers import LEASE, OWNER, Cell, ping

#: A length of time that is over as soon as it has begun.
MOMENT: Final = timedelta(microseconds=1)


class NeverOff(HoldOff):
    """Keeps the rescuer from nothing."""

    def __init__(self) -> None:
        super().__init__(timedelta(0))

    def is_over(self, *, now: int, instance: str) -> bool:
        """Whether leases count as expired: always."""
        return True


def rescuer(plane: Cell, hold_off: HoldOff | None = None) -> Rescuer:
    """Return a rescuer, by default one that never holds off."""
    return Rescuer(
        plane.writer, plane.log, plane.catalog, hold_off=hold_off or NeverOff(), lease=LEASE
    )


async def running(
    plane: Cell, task: Task | None = None, *, lease: timedelta = LEASE, worker: str = "worker-1"
) -> Task:
    """Return a task, by default a new one, whose next attempt was started."""
    task = task or await plane.ledger.submit(OWNER, ping())
    claims = await plane.attempts(worker, lease=lease).claim(
        count=1,
        queues=(task.submission.queue,),
        candidates=[Candidate(0, task.id)],
        device="cpu",
    )
    return claims.tasks[0]


async def is_ready(plane: Cell, task: Task) -> bool:
    """Whether a worker may claim the task now."""
    return await plane.store.rank(plane.keys.ready(task.submission.queue), task.id) is not None


def meanwhile(
    plane: Cell, monkeypatch: pytest.MonkeyPatch, happen: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen right after the next look at tasks, before anything is done about it."""
    read = plane.store.read

    async def read_and_be_late(task_ids: Sequence[str]) -> list[Stored | None]:
        monkeypatch.setattr(plane.store, "read", read)
        found = await read(task_ids)
        await happen()
        return found

    monkeypatch.setattr(plane.store, "read", read_and_be_late)
