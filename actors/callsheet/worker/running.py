"""The attempts a worker runs, and why one of them must stop."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Protocol

import structlog

from callsheet.broker.slots import Slots
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.model import Task

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class StopCause(Enum):
    """Why an attempt is asked to stop; a later one overrules an earlier one."""

    SHUTDOWN = 1
    CANCELLED = 2
    LEASE_LOST = 3


class OneShot:
    """Something that happens once; a tenth of what making a threading.Event costs."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._has_happened = False

    def set(self) -> None:
        """Let it happen; a second time changes nothing. On one thread."""
        if not self._has_happened:
            self._has_happened = True
            self._gate.release()

    def wait(self, seconds: float) -> bool:
        """Tell whether it has happened, or does so within that time."""
        if self._has_happened or seconds <= 0:
            return self._has_happened
        if not self._gate.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            return False
        self._gate.release()
        return True


class Slot(Protocol):
    """What an attempt takes, and gives back once."""

    def release(self) -> None:
        """Give it back."""
        ...


class Running:
    """One attempt; *task* is as this worker last knew it."""

    def __init__(self, task: Task, kind: TaskType, slot: Slot) -> None:
        self.task = task
        self._slot: Slot | None = slot
        self.attempt = task.attempt
        self.kind = kind
        self.cause: StopCause | None = None
        #: Whether its outcome is on its way into the ledger, which ends the lease too.
        self.concluding = False
        #: What an attempt in the worker itself waits on.
        self.stopping = OneShot()
        #: Set while a runner has the attempt: asks it to stop.
        self.stop_runner: Callable[[], object] | None = None
        #: The attempts that are run together with this one; None: it is run alone.
        self.batch: Batch | None = None

    def stop(self, cause: StopCause) -> None:
        """Ask the attempt to stop; on the worker's loop."""
        if self.cause is None or cause.value > self.cause.value:
            self.cause = cause
            _log.info(
                "attempt_stop_asked", task_id=self.task.id, attempt=self.attempt, cause=cause.name
            )
        self.stopping.set()
        if self.stop_runner is not None:
            self.stop_runner()

    def free_slot(self) -> None:
        """Let another attempt have this one's slot; a second time changes nothing."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None


class Batch:
    """Attempts that are run together in one slot, which is free when all of them have ended."""

    def __init__(self, started: Sequence[tuple[Task, TaskType]], slots: Slots) -> None:
        slot = _SharedSlot(slots, holders=len(started) + 1)
        self.members = tuple(Running(task, kind, slot) for task, kind in started)
        for member in self.members:
            member.batch = self
        #: Set when a thread came to perform one of them: all are performed then.
        self.performing: asyncio.Task[None] | None = None
        self._slot: Slot | None = slot

    def end(self) -> None:
        """Note that the runner is free; a second time changes nothing."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None


class _SharedSlot:
    def __init__(self, slots: Slots, *, holders: int) -> None:
        self._slots = slots
        self._holders = holders

    def release(self) -> None:
        """Note that one holder has done with it."""
        self._holders -= 1
        if self._holders == 0:
            self._slots.release()


class RunningAttempts:
    """All attempts of a worker, from their claim until their outcome is recorded."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, int], Running] = {}
        self._keeping: set[Running] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __iter__(self) -> Iterator[Running]:
        """Yield the attempts as they are now, whatever happens meanwhile."""
        return iter(tuple(self._attempts.values()))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._attempts)

    def add(self, running: Running) -> None:
        """Note an attempt that was claimed."""
        self._attempts[running.task.id, running.attempt] = running
        self._none.clear()

    def find(self, task_id: str, attempt: int) -> Running | None:
        """Return the attempt; None when this worker does not run it."""
        return self._attempts.get((task_id, attempt))

    def remove(self, running: Running) -> None:
        """Note that the attempt's outcome is recorded, or will never be; free its slot."""
        if self._attempts.pop((running.task.id, running.attempt), None) is None:
            return
        if running not in self._keeping:
            running.free_slot()
        self._keeping.discard(running)
        if not self._attempts:
            self._none.set()

    def keep_slot(self, running: Running) -> None:
        """Leave the attempt's slot taken when it is removed; whoever asked for this frees it."""
        self._keeping.add(running)

    async def none_left(self) -> None:
        """Return when no attempt runs."""
        await self._none.wait()
