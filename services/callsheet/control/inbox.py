"""What one watcher has not taken yet: a bounded number of facts, the newest signal, or its end."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from callsheet.control.errors import Refused

#: Facts kept for a watcher that is slow; past it the watcher reads them from the store.
FACTS_KEPT: Final = 64


#: A fact as its watchers get it.
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact as all its watchers get it; *payload* is a serialised WatchTaskResponse."""

    sequence: int
    #: The attempt it started; zero for every other fact.
    attempt: int
    is_final: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Signal:
    """The newest progress as all its watchers get it; *sequence* is of the fact before it."""

    sequence: int
    attempt: int
    payload: bytes


class Backlog(Generic[Kept]):
    """One watcher's facts. Nothing here waits but `filled`, and memory is bounded."""

    def __init__(self, *, limit: int, is_behind: bool) -> None:
        self._limit = limit
        self._facts: deque[Kept] = deque()
        self._end: Refused | None = None
        self._is_behind = is_behind
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many facts wait."""
        return len(self._facts)

    def put(self, fact: Kept) -> None:
        """Add a fact; one too many drops them all, and the watcher is behind."""
        if self._is_behind:
            return
        if len(self._facts) == self._limit:
            self.fall_behind()
            return
        self._facts.append(fact)
        self._filled.set()

    def fall_behind(self) -> None:
        """Make the watcher read the facts from where they are kept."""
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

    def take(self) -> Kept | None:
        """Return the oldest fact, if there is one."""
        return self._facts.popleft() if self._facts else None


class Inbox(Backlog[Fact]):
    """What one watcher of one task has not taken yet."""

    def __init__(self, *, limit: int = FACTS_KEPT) -> None:
        super().__init__(limit=limit, is_behind=False)
        self._signal: Signal | None = None

    def tell(self, signal: Signal) -> None:
        """Put the newest signal in the place of the one before it."""
        self._signal = signal
        self._filled.set()

    def take_signal(self, *, up_to: int) -> Signal | None:
        """Return the newest signal, unless it is of a fact that the watcher has not seen."""
        signal = self._signal
        if signal is None or signal.sequence > up_to:
            return None
        self._signal = None
        return signal
