"""The reference store: what every other store must do, in dicts."""

import asyncio
import struct
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Final

from callsheet.ledger.codec import parse_event
from callsheet.ledger.index import (
    CONTROL_KEPT,
    WAKES_KEPT,
    Keys,
    Move,
    Op,
    lease_member,
    parse_lease,
)
from callsheet.ledger.instants import span
from callsheet.ledger.log import LogEntry
from callsheet.ledger.registry import Wish
from callsheet.ledger.store import (
    Applied,
    Candidate,
    Claim,
    Claimed,
    Commit,
    Holds,
    Offering,
    Refused,
    Stored,
)

_SEQUENCE_AND_TIME: Final = struct.Struct("<BQBQ")
_TIME: Final = struct.Struct("<BQ")
_ATTEMPT: Final = struct.Struct("<BBBI")


class MemoryCell:
    """What one cell holds; its clock tells microseconds since 1970."""

    def __init__(self, clock: Callable[[], int], *, limit_bytes: int = 0) -> None:
        self.clock = clock
        self.limit_bytes = limit_bytes
        self.tasks: dict[str, dict[str, bytes]] = {}
        self.attempts: defaultdict[str, int] = defaultdict(int)
        self.sets: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.lists: defaultdict[str, deque[str]] = defaultdict(deque)
        #: What string keys hold, and until when.
        self.held: dict[str, tuple[str, int]] = {}
        self.counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        #: What each worker offers with its last claim, and (operation, task id) of what was taken.
        self.offers: dict[str, Claim] = {}
        self.taken: dict[str, tuple[int, str]] = {}
        #: What workers are told that listen for what is handed to them.
        self.told: dict[str, deque[Stored]] = {}
        #: What operators wish of workers.
        self.wishes: dict[str, Wish] = {}
        self.log: list[LogEntry] = []
        self.logged = 0
        self.changed = asyncio.Condition()

    def ordered(self, key: str) -> list[tuple[str, int]]:
        """Return a sorted set's (member, score), lowest first."""
        return sorted(self.sets[key].items(), key=lambda item: (item[1], item[0]))

    def holds(self, key: str) -> str:
        """Return what a string key holds now; empty for nothing."""
        member, until = self.held.get(key, ("", 0))
        return member if self.clock() < until else ""

    def forget_worker(self, worker: str) -> None:
        """Forget what was wished of a worker that is gone, what it offered and was handed."""
        self.wishes.pop(worker, None)
        self.offers.pop(worker, None)
        self.taken.pop(worker, None)

    def append(self, task_id: str, event: bytes) -> None:
        """Add a fact to the log."""
        self.logged += 1
        self.log.append(LogEntry(f"{self.logged}-0", task_id, event))

    async def tell(self) -> None:
        """Wake whoever waits for a change."""
        async with self.changed:
            self.changed.notify_all()

    async def until(self, ready: Callable[[], bool], *, timeout: timedelta) -> bool:
        """Wait until *ready*; False after the timeout."""
        try:
            async with asyncio.timeout(timeout.total_seconds()), self.changed:
                await self.changed.wait_for(ready)
        except TimeoutError:
            return False
        return True


class MemoryStore:
    """Keeps tasks in a MemoryCell."""

    def __init__(self, cell: MemoryCell, keys: Keys) -> None:
        self._cell = cell
        self._keys = keys

    async def commit(self, commits: Sequence[Commit]) -> list[Applied | Refused]:
        """Apply each commit, all or nothing and independent of the others."""
        now = self._cell.clock()
        answers = [self._apply(commit, now + place) for place, commit in enumerate(commits)]
        await self._cell.tell()
        return answers

    async def claim(self, claim: Claim) -> Claimed:
        """Start attempts of candidates that are still ready. Without candidates: only look."""
        now = self._cell.clock()
        handed = self._withdraw(claim.offering)
        left = max(0, claim.count - (handed is not None))
        started = self._started_before(claim)
        if started:
            left = len(started)
        for candidate in () if started else claim.candidates:
            if len(started) == left:
                break
            task_id, paused = candidate.task_id, self._cell.counts[self._keys.paused]
            if claim.queues[candidate.queue] in paused or self._is_lost(claim, task_id):
                continue
            was_ready = self._ready(claim, candidate).pop(task_id, None) is not None
            if was_ready and task_id in self._cell.tasks:
                started.append(self._start(task_id, claim.template, now, lease=claim.lease))
        ready = self._look(claim)
        if claim.offering is not None and not ready and len(started) < left:
            self._offer(claim, claim.offering, now)
        await self._cell.tell()
        return Claimed(now, tuple(started), ready, handed)

    async def handed(self, worker: str) -> AsyncGenerator[Stored, None]:
        """Yield tasks that commits started for the worker on its offer, until closed."""
        told = self._cell.told[worker] = deque()
        try:
            while True:
                if await self._cell.until(lambda: bool(told), timeout=timedelta(seconds=5)):
                    yield told.popleft()
        finally:
            del self._cell.told[worker]

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease: timedelta) -> list[int]:
        """Extend leases (task id, attempt); answer each task's sequence, or 0 for a lost lease."""
        until = self._cell.clock() + span(lease)
        held = self._cell.sets[self._keys.leases]
        sequences: list[int] = []
        for task_id, attempt in leases:
            member = lease_member(task_id, attempt)
            if member in held:
                held[member] = until
            sequences.append(self._sequence(task_id) if member in held else 0)
        return sequences

    async def read(self, task_ids: Sequence[str]) -> list[Stored | None]:
        """Return tasks as they are; None for an unknown one."""
        return [self._stored(task_id) for task_id in task_ids]

    async def facts(self, task_id: str, *, after: int, limit: int) -> list[bytes]:
        """Return the task's facts after a sequence, oldest first, at most *limit*."""
        fields = self._cell.tasks.get(task_id, {})
        last = min(self._sequence(task_id), after + limit)
        return [fields[str(sequence)] for sequence in range(after + 1, last + 1)]

    async def due(self, key: str, *, limit: int) -> tuple[int, list[str]]:
        """Return the time, and the members of a sorted set whose score has come."""
        now = self._cell.clock()
        come = [member for member, score in self._cell.ordered(key) if score <= now]
        return now, come[:limit]

    async def page(self, key: str, *, below: int | None, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, highest first, with scores less than *below*."""
        pairs = reversed(self._cell.ordered(key))
        return [pair for pair in pairs if below is None or pair[1] < below][:limit]

    async def members(self, key: str, *, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, lowest first."""
        return self._cell.ordered(key)[:limit]

    async def rank(self, key: str, member: str) -> int | None:
        """Return how many members of a sorted set stand before this one; None: it is not there."""
        names = [name for name, _ in self._cell.ordered(key)]
        return names.index(member) if member in names else None

    async def count(self, key: str) -> int:
        """Return how many members a sorted set has."""
        return len(self._cell.sets[key])

    async def held(self, keys: Sequence[str]) -> tuple[int, list[str]]:
        """Return the time, and what each key holds; empty for nothing."""
        return self._cell.clock(), [self._cell.holds(key) for key in keys]

    async def counts(self, key: str) -> dict[str, int]:
        """Return how often each member of a hash was counted."""
        return dict(self._cell.counts[key])

    async def pause(self, queue: str) -> None:
        """Let nobody claim tasks of the queue, from now on."""
        self._cell.counts[self._keys.paused].setdefault(queue, self._cell.clock())

    async def resume(self, queue: str) -> None:
        """Let tasks of the queue be claimed again, and wake who waits for them."""
        if self._cell.counts[self._keys.paused].pop(queue, None) is not None:
            ready = self._cell.ordered(self._keys.ready(queue))[:WAKES_KEPT]
            if ready:
                self._cell.lists[self._keys.wake(queue)] = deque(task_id for task_id, _ in ready)
            await self._cell.tell()

    async def await_wake(self, queues: Sequence[str], *, timeout: timedelta) -> Candidate | None:
        """Wait for a wake-up of one of the queues; answer its hint, or None after the timeout."""
        lists = [self._cell.lists[self._keys.wake(queue)] for queue in queues]
        if not await self._cell.until(lambda: any(lists), timeout=timeout):
            return None
        queue = next(place for place, hints in enumerate(lists) if hints)
        return Candidate(queue, lists[queue].popleft())

    async def await_control(self, worker: str, *, timeout: timedelta) -> tuple[str, int] | None:
        """Wait for a word on the worker's control list: (task id, attempt) to look at again."""
        words = self._cell.lists[self._keys.control(worker)]
        if not await self._cell.until(lambda: bool(words), timeout=timeout):
            return None
        return parse_lease(words.popleft())

    async def room(self) -> tuple[int, int]:
        """Return (used, limit) bytes of memory; a limit of 0 means none."""
        used = sum(len(value) for task in self._cell.tasks.values() for value in task.values())
        return used, self._cell.limit_bytes

    def _apply(self, commit: Commit, time: int) -> Applied | Refused:
        if self._sequence(commit.task_id) != commit.expected or not self._guarded(commit):
            return self._refuse(commit)
        sequence = commit.expected
        fields = (
            self._cell.tasks.setdefault(commit.task_id, {})
            if commit.event
            else (self._cell.tasks.get(commit.task_id, {}))
        )
        if commit.event:
            sequence += 1
            event = commit.event + _SEQUENCE_AND_TIME.pack(17, sequence, 25, time)
            fields["q"], fields[str(sequence)] = str(sequence).encode(), event
            self._cell.append(commit.task_id, event)
        if commit.second:
            second = commit.second + _SEQUENCE_AND_TIME.pack(17, sequence + 1, 25, time)
            fields["q"], fields[str(sequence + 1)] = str(sequence + 1).encode(), second
            self._cell.append(commit.task_id, second)
        if commit.record:
            fields["r"] = commit.record + _TIME.pack(17, time)
        if commit.progress:
            fields["p"] = commit.progress
        skipped = 0
        for move in commit.moves:
            if skipped:
                skipped -= 1
            elif move.op is Op.HAND:
                skipped = 2 if self._hand(commit.task_id, move, time) else 0
            else:
                self._move(commit.task_id, move, time)
        return Applied(sequence, time)

    def _refuse(self, commit: Commit) -> Applied | Refused:
        fields = self._cell.tasks.get(commit.task_id, {})
        following = fields.get(str(commit.expected + 1), b"")
        if following and commit.operation:
            event = parse_event(following)
            if event.operation == commit.operation:
                return Applied(event.sequence, event.time)
        return Refused(self._stored(commit.task_id), following)

    def _guarded(self, commit: Commit) -> bool:
        if commit.guard is None:
            return True
        if isinstance(commit.guard, Holds):
            return self._cell.holds(commit.guard.key) == commit.guard.member
        score = self._cell.sets[commit.guard.key].get(commit.guard.member)
        return score is not None and score <= commit.guard.score

    def _move(self, task_id: str, move: Move, time: int) -> None:
        member = move.member or task_id
        match move.op:
            case Op.ADD:
                self._cell.sets[move.key][member] = move.score
            case Op.ADD_AFTER:
                self._cell.sets[move.key][member] = time + move.score
            case Op.REMOVE:
                self._cell.sets[move.key].pop(member, None)
            case Op.WAKE:
                if len(self._cell.lists[move.key]) < WAKES_KEPT:
                    self._cell.lists[move.key].append(member)
            case Op.TELL:
                words = self._cell.lists[move.key]
                words.append(member)
                if len(words) > CONTROL_KEPT:
                    words.popleft()
            case Op.FORGET:
                self._cell.tasks.pop(member, None)
                self._cell.attempts.pop(member, None)
            case _:
                self._keep(move, member, time)

    def _keep(self, move: Move, member: str, time: int) -> None:
        if move.op is Op.KEEP:
            self._cell.held[move.key] = member, time + move.score
        elif move.op is Op.COUNT:
            counts = self._cell.counts[move.key]
            counts[member] = counts.get(member, 0) + move.score
        elif self._cell.holds(move.key) == member:
            del self._cell.held[move.key]

    def _withdraw(self, offering: Offering | None) -> tuple[int, str] | None:
        """Take the worker's offer back; answer what it was handed, unless it knows."""
        if offering is None:
            return None
        self._cell.offers.pop(offering.worker, None)
        taken = self._cell.taken.get(offering.worker)
        if taken is None or taken[0] == offering.known:
            return None
        is_running = lease_member(taken[1], 1) in self._cell.sets[self._keys.leases]
        return taken if is_running else None

    def _offer(self, claim: Claim, offering: Offering, now: int) -> None:
        if offering.template and claim.window:
            self._cell.offers[offering.worker] = claim
            for queue in claim.queues:
                until = now + span(offering.lasts)
                self._cell.sets[self._keys.idle(queue)][offering.worker] = until

    def _hand(self, task_id: str, move: Move, time: int) -> bool:
        """Start the task for a worker that waits idle for its queue, if there is one."""
        queue = move.member
        is_paused = queue in self._cell.counts[self._keys.paused]
        if is_paused or self._cell.sets[self._keys.ready(queue)]:
            return False
        for worker, until in self._cell.ordered(move.key):
            if until <= time:
                continue
            del self._cell.sets[move.key][worker]
            claim = self._cell.offers.pop(worker, None)
            told = self._cell.told.get(worker)
            if worker in self._cell.wishes or told is None:
                continue
            if claim is not None and claim.offering is not None:
                template = claim.offering.template
                told.append(self._start(task_id, template, time, lease=claim.lease))
                self._cell.taken[worker] = claim.offering.operation, task_id
                return True
        return False

    def _start(self, task_id: str, template: bytes, now: int, *, lease: timedelta) -> Stored:
        fields = self._cell.tasks[task_id]
        self._cell.attempts[task_id] += 1
        attempt, sequence = self._cell.attempts[task_id], self._sequence(task_id) + 1
        stamped = _SEQUENCE_AND_TIME.pack(17, sequence, 25, now)
        event = template + stamped + _ATTEMPT.pack(90, 5, 13, attempt)
        fields["q"], fields[str(sequence)] = str(sequence).encode(), event
        self._cell.append(task_id, event)
        until = now + span(lease)
        self._cell.sets[self._keys.leases][lease_member(task_id, attempt)] = until
        return Stored(task_id, sequence, fields["r"], fields["1"], event)

    def _look(self, claim: Claim) -> tuple[Candidate, ...]:
        found: list[Candidate] = []
        for place, queue in enumerate(claim.queues if claim.window else ()):
            is_paused = queue in self._cell.counts[self._keys.paused]
            ready = [] if is_paused else self._cell.ordered(self._keys.ready(queue))
            found += (Candidate(place, task_id) for task_id, _ in ready[: claim.window])
            if not ready:
                self._cell.lists[self._keys.wake(queue)].clear()
        return tuple(found)

    def _started_before(self, claim: Claim) -> list[Stored]:
        """Return what the claim started when it was made before."""
        started: list[Stored] = []
        for candidate in claim.candidates:
            stored = self._stored(candidate.task_id)
            waits = candidate.task_id in self._ready(claim, candidate)
            if stored and not waits and parse_event(stored.last).operation == claim.operation:
                started.append(stored._replace(progress=b""))
        return started

    def _is_lost(self, claim: Claim, task_id: str) -> bool:
        before = self._cell.tasks.get(task_id, {}).get(str(self._sequence(task_id) - 1))
        return before is not None and parse_event(before).operation == claim.operation

    def _ready(self, claim: Claim, candidate: Candidate) -> dict[str, int]:
        return self._cell.sets[self._keys.ready(claim.queues[candidate.queue])]

    def _sequence(self, task_id: str) -> int:
        return int(self._cell.tasks.get(task_id, {}).get("q", b"0"))

    def _stored(self, task_id: str) -> Stored | None:
        fields = self._cell.tasks.get(task_id)
        if not fields or "q" not in fields:
            return None
        last = fields[fields["q"].decode()]
        progress = fields.get("p", b"")
        return Stored(task_id, int(fields["q"]), fields["r"], fields["1"], last, progress)
