"""What one watcher of many tasks has not taken yet: a bounded number of facts and signals."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from callsheet.control.errors import Refused
from callsheet.control.inbox import Signal
from callsheet.ledger.model import TaskState
from callsheet.ledger.position import Position
from callsheet.ledger.snapshots import WatchFilter

#: Facts kept for a watcher that is slow; past it the watcher reads them from the log.
FACTS_KEPT: Final = 1024
#: Tasks whose newest signal is kept for a watcher that is slow; past it the oldest goes.
SIGNALS_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class FeedFact:
    """One fact as all its watchers get it; *payload* is a serialised WatchTasksResponse."""

    position: Position
    task_id: str
    sequence: int
    #: The attempt it started; zero for every other fact.
    attempt: int
    is_final: bool
    payload: bytes


class FeedInbox:
    """One watcher's. Nothing here waits but `filled`, and memory is bounded.

    It begins behind: what there was before it, its watcher reads from the log.
    """

    def __init__(self, wanted: WatchFilter, *, limit: int = FACTS_KEPT) -> None:
        self.wanted = wanted
        self._limit = limit
        self._facts: deque[FeedFact] = deque()
        self._signals: dict[str, Signal] = {}
        self._end: Refused | None = None
        self._is_behind = True
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many facts wait."""
        return len(self._facts)

    def put(self, fact: FeedFact) -> None:
        """Add a fact; one too many drops them all, and the watcher is behind."""
        if self._is_behind:
            return
        if len(self._facts) == self._limit:
            self.fall_behind()
            return
        self._facts.append(fact)
        self._filled.set()

    def tell(self, task_id: str, signal: Signal) -> None:
        """Put the newest signal of a task in the place of the one before it."""
        self._signals[task_id] = signal
        if len(self._signals) > SIGNALS_KEPT:
            del self._signals[next(iter(self._signals))]
        self._filled.set()

    def takes_signals(self, task_id: str, task_type: str) -> bool:
        """Whether signals of a running task are watched."""
        return self.wanted.takes(task_id, task_type) and self.wanted.takes_in(TaskState.RUNNING)

    def fall_behind(self) -> None:
        """Make the watcher read the facts from the log."""
        self._is_behind = True
        self._facts.clear()
        self._filled.set()

    def end(self, reason: Refused) -> None:
        """Make the watcher end with an error."""
        self._end = reason
        self._filled.set()

    async def filled(self) -> None:
        """Wait until there is something to take. Raises what the watcher was ended with."""
        await self._filled.wait()
        self._filled.clear()
        self.check()

    def check(self) -> None:
        """Raise what the watcher was ended with, if it was."""
        if self._end is not None:
            self._filled.set()
            raise self._end

    def catch_up(self) -> bool:
        """Whether the watcher is behind; facts that come from now on are kept again."""
        was_behind, self._is_behind = self._is_behind, False
        return was_behind

    @property
    def is_level(self) -> bool:
        """Whether every fact that came was taken."""
        return not self._is_behind and not self._facts

    def take(self) -> FeedFact | None:
        """Return the oldest fact, if there is one."""
        return self._facts.popleft() if self._facts else None

    def take_signal(self, task_id: str) -> Signal | None:
        """Return the newest signal of a task, if one waits."""
        return self._signals.pop(task_id, None)

    def drop_signal(self, task_id: str, *, before: int) -> None:
        """Forget the signal of a task that an attempt before this one reported."""
        signal = self._signals.get(task_id)
        if signal is not None and signal.attempt < before:
            del self._signals[task_id]

    def take_signals(self) -> list[Signal]:
        """Return the newest signals of all tasks that have one."""
        signals = list(self._signals.values())
        self._signals.clear()
        return signals
