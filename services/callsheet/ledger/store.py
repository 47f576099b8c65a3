"""The seam between the ledger and where it is kept.

What passes through is tuples: several are made for each fact, and a frozen dataclass takes four
times as long to make.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from callsheet.ledger.index import Move


class Guard(NamedTuple):
    """A commit applies only while *member* of the sorted set has a score of at most *score*."""

    key: str
    member: str
    score: int


class Holds(NamedTuple):
    """A commit applies only while the key holds *member*; empty: while it holds nothing."""

    key: str
    member: str


class Commit(NamedTuple):
    """One atomic change of one task, applied only if nobody was first.

    *event* and *record* lack their envelope's sequence and time: the store stamps them. Without an
    event only the moves and the progress are written, and no sequence is taken. *second* is a fact
    right behind the event, with the next sequence; the record is the task after both.
    """

    task_id: str
    expected: int
    operation: int = 0
    event: bytes = b""
    record: bytes = b""
    moves: tuple[Move, ...] = ()
    guard: Guard | Holds | None = None
    progress: bytes = b""
    #: Whether this accepts new work; such a commit is refused when memory runs out.
    admits: bool = False
    second: bytes = b""


class Applied(NamedTuple):
    """The commit stands; its (first) fact has this sequence and this time in microseconds."""

    sequence: int
    time: int


class Stored(NamedTuple):
    """A task as the store holds it: snapshot and tail."""

    task_id: str
    sequence: int
    record: bytes
    first: bytes
    last: bytes
    progress: bytes = b""


class Refused(NamedTuple):
    """Somebody was first; *stored* is the task as it is now, or None when there is none.

    *following* is the fact at the expected sequence + 1, empty when there is none yet.
    """

    stored: Stored | None
    following: bytes = b""


class Candidate(NamedTuple):
    """A task that a claim may take, from the queue with that index in the claim."""

    queue: int
    task_id: str


@dataclass(frozen=True, slots=True)
class Offering:
    """What a claim says of its worker's offers: the one made before is withdrawn.

    *known* is the operation of the last offer of which the worker knows that it was taken, or 0.
    *template* and *operation* make the new offer, as those of a claim start attempts; it stands for
    *lasts*, if there is a slot left and nothing is ready. With an empty template none is made.
    """

    worker: str
    known: int
    operation: int = 0
    template: bytes = b""
    lasts: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Claim:
    """Start up to *count* of the candidates, and tell what is ready next.

    *template* is an event record with AttemptStarted but for sequence, time and attempt. A claim
    may be repeated as it is after a lost answer: what its operation started is answered again.
    """

    count: int
    lease: timedelta
    queues: tuple[str, ...]
    window: int
    template: bytes
    operation: int
    candidates: tuple[Candidate, ...] = ()
    offering: Offering | None = None


class Claimed(NamedTuple):
    """What a claim started, and the candidates that are ready next, queue by queue.

    *handed* is (operation of the offer, task id) of what a commit had started for the worker before
    its offer was withdrawn, while that runs and is not what the worker knows already. It takes the
    place of one of the attempts that the claim might start.
    """

    time: int
    started: tuple[Stored, ...]
    ready: tuple[Candidate, ...]
    handed: tuple[int, str] | None = None


class Store(Protocol):
    """Keeps tasks, their facts and the indexes. Every method may raise LedgerUnavailable."""

    async def commit(self, commits: Sequence[Commit]) -> list[Applied | Refused]:
        """Apply each commit, all or nothing and independent of the others.

        A commit that was applied before, recognised by its operation, is Applied again.
        """
        ...

    async def claim(self, claim: Claim) -> Claimed:
        """Start attempts of candidates that are still ready. Without candidates: only look."""
        ...

    def handed(self, worker: str) -> AsyncGenerator[Stored, None]:
        """Yield tasks that commits started for the worker on its offer, until closed.

        While nobody listens here, no offer of the worker is taken. What a broken link swallows, the
        worker's next claim tells.
        """
        ...

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease: timedelta) -> list[int]:
        """Extend leases (task id, attempt); answer each task's sequence, or 0 for a lost lease."""
        ...

    async def read(self, task_ids: Sequence[str]) -> list[Stored | None]:
        """Return tasks as they are; None for an unknown one."""
        ...

    async def facts(self, task_id: str, *, after: int, limit: int) -> list[bytes]:
        """Return the task's facts after a sequence, oldest first, at most *limit*."""
        ...

    async def due(self, key: str, *, limit: int) -> tuple[int, list[str]]:
        """Return the time, and the members of a sorted set whose score has come."""
        ...

    async def page(self, key: str, *, below: int | None, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, highest first, with scores less than *below*."""
        ...

    async def members(self, key: str, *, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, lowest first."""
        ...

    async def rank(self, key: str, member: str) -> int | None:
        """Return how many members of a sorted set stand before this one; None: it is not there."""
        ...

    async def count(self, key: str) -> int:
        """Return how many members a sorted set has."""
        ...

    async def held(self, keys: Sequence[str]) -> tuple[int, list[str]]:
        """Return the time, and what each key holds; empty for nothing."""
        ...

    async def counts(self, key: str) -> dict[str, int]:
        """Return how often each member of a hash was counted."""
        ...

    async def pause(self, queue: str) -> None:
        """Let nobody claim tasks of the queue, from now on.

        Of a paused queue a claim starts nothing, and answers nothing that is ready. `counts` of
        Keys.paused tells which are paused, and since when.
        """
        ...

    async def resume(self, queue: str) -> None:
        """Let tasks of the queue be claimed again, and wake who waits for them."""
        ...

    async def await_wake(self, queues: Sequence[str], *, timeout: timedelta) -> Candidate | None:
        """Wait for a wake-up of one of the queues; answer its hint, or None after the timeout."""
        ...

    async def await_control(self, worker: str, *, timeout: timedelta) -> tuple[str, int] | None:
        """Wait for a word on the worker's control list: (task id, attempt) to look at again."""
        ...

    async def room(self) -> tuple[int, int]:
        """Return (used, limit) bytes of memory; a limit of 0 means none."""
        ...
