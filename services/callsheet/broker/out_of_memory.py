"""Which worker takes a task that memory ran out for: another one, with more of it if there is one.

On the worker where it failed every way to need less memory was tried. So it leaves the task to the
others for a while, as do others that have no more memory, while one that has is alive.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.model import FailureReason, Task
from callsheet.ledger.waiting import device_memory, takes_from
from callsheet.v1.operations_service_pb2 import Worker

#: How long after its back-off a task is left to others, who may be busy: on the worker where it
#: failed it would most likely fail for good.
PATIENCE: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Taker:
    """A worker that takes tasks of the queue now, and the bytes of its device; None: untold."""

    id: str
    memory: int | None


class LeftToOthers:
    """Tells for one worker which tasks it leaves to others."""

    def __init__(self, workers: KnownWorkers, *, worker: str, now: Callable[[], datetime]) -> None:
        """*now* tells the time by the ledger's clock."""
        self._workers = workers
        self._worker = worker
        self._now = now

    async def __call__(self, task: Task) -> bool:
        """Whether the worker leaves a ready task to others; nobody is asked for most of them."""
        if not _ran_out_of_memory(task):
            return False
        known = await self._workers.look()
        return known is not None and is_left_to_others(
            task, worker=self._worker, workers=known, now=self._now()
        )


def is_left_to_others(task: Task, *, worker: str, workers: Sequence[Worker], now: datetime) -> bool:
    """Whether a worker leaves a ready task to others; *workers* are the live ones."""
    if not _ran_out_of_memory(task):
        return False
    takers = [
        Taker(each.id, device_memory(each))
        for each in workers
        if takes_from(each, task.submission.queue)
    ]
    mine = next((each.memory for each in takers if each.id == worker), None)
    others = [each for each in takers if each.id not in (worker, task.worker)]
    needed = task.ended_attempts[-1].failure.memory_needed_bytes
    if mine is not None and mine < needed and any(_has(each, needed) for each in others):
        # It would fail here again: those that can run it are waited for, however busy they are.
        return True
    if now >= (task.ready_time or task.update_time) + PATIENCE:
        return False
    if worker == task.worker:
        return any(each.memory is None or _has(each, max(needed, mine or 0)) for each in others)
    before = next((each.memory for each in takers if each.id == task.worker), None)
    if mine is None or (before is not None and mine > before and mine >= needed):
        return False
    return any(_has(each, mine + 1) for each in others)


def _ran_out_of_memory(task: Task) -> bool:
    """Whether that is what the latest attempt failed of: the worker of the task is its worker."""
    last = task.ended_attempts[-1] if task.ended_attempts else None
    return (
        last is not None
        and last.attempt == task.attempt
        and last.failure.reason is FailureReason.OUT_OF_MEMORY
    )


def _has(taker: Taker, memory: int) -> bool:
    """Whether it is known to have so much."""
    return taker.memory is not None and taker.memory >= memory
