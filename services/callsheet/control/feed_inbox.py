"""What one watcher of many tasks has not taken yet: a bounded number of facts and signals."""

from dataclasses import dataclass
from typing import Final

from callsheet.control.inbox import Backlog, Signal
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


class FeedInbox(Backlog[FeedFact]):
    """What one watcher of many tasks has not taken yet.

    It begins behind: what there was before it, its watcher reads from the log.
    """

    def __init__(self, wanted: WatchFilter, *, limit: int = FACTS_KEPT) -> None:
        super().__init__(limit=limit, is_behind=True)
        self.wanted = wanted
        self._signals: dict[str, Signal] = {}

    def tell(self, task_id: str, signal: Signal) -> None:
        """Put the newest signal of a task in the place of the one before it."""
        self._signals[task_id] = signal
        if len(self._signals) > SIGNALS_KEPT:
            del self._signals[next(iter(self._signals))]
        self._filled.set()

    def takes_signals(self, task_id: str, task_type: str) -> bool:
        """Whether signals of a running task are watched."""
        return self.wanted.takes(task_id, task_type) and self.wanted.takes_in(TaskState.RUNNING)

    @property
    def is_level(self) -> bool:
        """Whether every fact that came was taken."""
        return not self._is_behind and not self._facts

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
