"""Tasks, their facts and the indexes in Redis, one hash a task."""

import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, cast

from callsheet.ledger.codec import parse_event
from callsheet.ledger.errors import LedgerFull
from callsheet.ledger.index import CONTROL_KEPT, WAKES_KEPT, Keys, Op, parse_word
from callsheet.ledger.instants import span
from callsheet.ledger.lane import CommitLane
from callsheet.ledger.offers import offer_record, parse_told
from callsheet.ledger.redis_connection import RedisConnection, Word
from callsheet.ledger.redis_scripts import (
    ADMIT,
    CLAIM,
    COMMIT,
    DUE,
    HELD,
    PAUSE,
    READ,
    RENEW,
    RESUME,
)
from callsheet.ledger.store import (
    Applied,
    Candidate,
    Claim,
    Claimed,
    Commit,
    Guard,
    Refused,
    Stored,
)

#: Frames of one script call; more would hold the server for milliseconds.
FRAMES: Final = 128
#: The commit script's word for a second fact.
_SECOND: Final = "E"
_OPERATION: Final = struct.Struct("<Q")
_KEPT: Final = {Op.WAKE: WAKES_KEPT, Op.TELL: CONTROL_KEPT}


class RedisStore:
    """Keeps tasks in Redis or Valkey. Commits made at the same time share one fsync."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._lane: CommitLane[Commit, Applied | Refused | LedgerFull]
        self._lane = CommitLane(self._send, batch=FRAMES)

    async def commit(self, commits: Sequence[Commit]) -> list[Applied | Refused]:
        """Apply each commit, all or nothing and independent of the others."""
        if len(commits) == 1:
            return [_settled(await self._lane.put(commits[0]))]
        return [_settled(answer) for answer in await self._lane.put_all(commits)]

    async def claim(self, claim: Claim) -> Claimed:
        """Start attempts of candidates that are still ready. Without candidates: only look."""
        keys: list[Word] = [self._keys.log, self._keys.leases, self._keys.paused, self._keys.offers]
        for queue in claim.queues:
            keys += (self._keys.ready(queue), self._keys.wake(queue), self._keys.idle(queue))
        keys += (self._keys.task(candidate.task_id) for candidate in claim.candidates)
        arguments: list[Word] = [
            claim.count,
            span(claim.lease),
            len(claim.queues),
            claim.window,
            claim.template,
            _OPERATION.pack(claim.operation),
            *self._offering(claim),
            *claim.queues,
        ]
        for candidate in claim.candidates:
            arguments += (candidate.queue + 1, candidate.task_id)
        reply = await self._connection.script(CLAIM, keys, arguments)
        time, started, ready, handed = cast(
            "tuple[bytes, list[list[bytes]], list[list[bytes]], list[bytes]]", reply
        )
        return Claimed(
            time=int(time),
            started=tuple(_started(found) for found in started),
            ready=tuple(
                Candidate(queue, task_id.decode())
                for queue, ids in enumerate(ready)
                for task_id in ids
            ),
            handed=(_OPERATION.unpack(handed[0])[0], handed[1].decode()) if handed else None,
        )

    async def handed(self, worker: str) -> AsyncGenerator[Stored, None]:
        """Yield tasks that commits started for the worker on its offer, until closed."""
        async with aclosing(self._connection.published(self._keys.handed(worker))) as told:
            async for content in told:
                yield parse_told(content)

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease: timedelta) -> list[int]:
        """Extend leases (task id, attempt); answer each task's sequence, or 0 for a lost lease."""
        keys = [self._keys.leases, *(self._keys.task(task_id) for task_id, _ in leases)]
        members = (f"{task_id}/{attempt}" for task_id, attempt in leases)
        reply = await self._connection.script(RENEW, keys, [span(lease), *members])
        return cast("list[int]", reply)

    async def read(self, task_ids: Sequence[str]) -> list[Stored | None]:
        """Return tasks as they are; None for an unknown one."""
        found: list[Stored | None] = []
        for start in range(0, len(task_ids), FRAMES):
            chunk = task_ids[start : start + FRAMES]
            keys = [self._keys.task(task_id) for task_id in chunk]
            reply = cast("list[list[bytes]]", await self._connection.script(READ, keys, []))
            found += (
                _stored(task_id, fields) for task_id, fields in zip(chunk, reply, strict=True)
            )
        return found

    async def facts(self, task_id: str, *, after: int, limit: int) -> list[bytes]:
        """Return the task's facts after a sequence, oldest first, at most *limit*."""
        fields = [str(sequence) for sequence in range(after + 1, after + 1 + limit)]
        reply = await self._connection.command("HMGET", self._keys.task(task_id), *fields)
        facts: list[bytes] = []
        for fact in cast("list[bytes | None]", reply):
            if fact is None:
                break
            facts.append(fact)
        return facts

    async def due(self, key: str, *, limit: int) -> tuple[int, list[str]]:
        """Return the time, and the members of a sorted set whose score has come."""
        reply = await self._connection.script(DUE, [key], [limit])
        time, members = cast("tuple[bytes, list[bytes]]", reply)
        return int(time), [member.decode() for member in members]

    async def page(self, key: str, *, below: int | None, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, highest first, with scores less than *below*."""
        highest = "+inf" if below is None else f"({below}"
        return await self._scored(
            "ZRANGE", key, highest, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES"
        )

    async def members(self, key: str, *, limit: int) -> list[tuple[str, int]]:
        """Return (member, score) of a sorted set, lowest first."""
        return await self._scored("ZRANGE", key, 0, limit - 1, "WITHSCORES")

    async def rank(self, key: str, member: str) -> int | None:
        """Return how many members of a sorted set stand before this one; None: it is not there."""
        return cast("int | None", await self._connection.command("ZRANK", key, member))

    async def count(self, key: str) -> int:
        """Return how many members a sorted set has."""
        return cast("int", await self._connection.command("ZCARD", key))

    async def held(self, keys: Sequence[str]) -> tuple[int, list[str]]:
        """Return the time, and what each key holds; empty for nothing."""
        reply = await self._connection.script(HELD, keys, [])
        time, values = cast("tuple[bytes, list[bytes]]", reply)
        return int(time), [value.decode() for value in values]

    async def counts(self, key: str) -> dict[str, int]:
        """Return how often each member of a hash was counted."""
        reply = await self._connection.command("HGETALL", key)
        found = cast("dict[bytes, bytes]", reply)
        return {member.decode(): int(count) for member, count in found.items()}

    async def pause(self, queue: str) -> None:
        """Let nobody claim tasks of the queue, from now on."""
        await self._connection.number(PAUSE, [self._keys.paused], [queue])

    async def resume(self, queue: str) -> None:
        """Let tasks of the queue be claimed again, and wake who waits for them."""
        places = [self._keys.paused, self._keys.ready(queue), self._keys.wake(queue)]
        await self._connection.number(RESUME, places, [queue, WAKES_KEPT])

    async def await_wake(self, queues: Sequence[str], *, timeout: timedelta) -> Candidate | None:
        """Wait for a wake-up of one of the queues; answer its hint, or None after the timeout."""
        lists = [self._keys.wake(queue) for queue in queues]
        popped = await self._pop(lists, timeout)
        return None if popped is None else Candidate(lists.index(popped[0]), popped[1])

    async def await_control(self, worker: str, *, timeout: timedelta) -> tuple[str, int] | None:
        """Wait for a word on the worker's control list: (task id, attempt) to look at again."""
        popped = await self._pop([self._keys.control(worker)], timeout)
        return None if popped is None else parse_word(popped[1])

    async def room(self) -> tuple[int, int]:
        """Return (used, limit) bytes of memory; a limit of 0 means none."""
        info = cast("dict[str, int]", await self._connection.command("INFO", "memory"))
        return info["used_memory"], info["maxmemory"]

    def _offering(self, claim: Claim) -> tuple[Word, ...]:
        """Return the words by which the claim script knows of offers."""
        offering = claim.offering
        if offering is None:
            return ("", "", "", 0)
        record = offer_record(self._keys, offering, lease=claim.lease) if offering.template else b""
        return (offering.worker, _OPERATION.pack(offering.known), record, span(offering.lasts))

    async def _send(self, commits: Sequence[Commit]) -> Sequence[Applied | Refused | LedgerFull]:
        admitting = [commit for commit in commits if commit.admits]
        others = [commit for commit in commits if not commit.admits]
        if not others:
            return await self._admit(admitting)
        ended = await self._run(COMMIT, others)
        if not admitting:
            return ended
        # Apart, so that work already accepted can end when memory has run out.
        answers = dict(zip(map(id, others), ended, strict=True))
        answers |= zip(map(id, admitting), await self._admit(admitting), strict=True)
        return [answers[id(commit)] for commit in commits]

    async def _admit(self, commits: Sequence[Commit]) -> Sequence[Applied | Refused | LedgerFull]:
        try:
            return await self._run(ADMIT, commits)
        except LedgerFull as refusal:
            # An answer and no error: what went in the same batch has happened.
            return [refusal] * len(commits)

    async def _run(
        self, script: str, commits: Sequence[Commit]
    ) -> list[Applied | Refused | LedgerFull]:
        keys, arguments = _frames(self._keys, commits)
        reply = await self._connection.script(script, keys, arguments)
        answers = cast("list[list[bytes]]", reply)
        return [_answer(commit, answer) for commit, answer in zip(commits, answers, strict=True)]

    async def _scored(self, *words: Word) -> list[tuple[str, int]]:
        reply = await self._connection.command(*words)
        pairs = cast("list[tuple[bytes, float]]", reply)
        return [(member.decode(), int(score)) for member, score in pairs]

    async def _pop(self, lists: Sequence[str], timeout: timedelta) -> tuple[str, str] | None:
        seconds = f"{timeout.total_seconds():.3f}"
        reply = await self._connection.command("BLPOP", *lists, seconds)
        if reply is None:
            return None
        key, member = cast("tuple[bytes, bytes]", reply)
        return key.decode(), member.decode(errors="replace")


def _frames(keys: Keys, commits: Sequence[Commit]) -> tuple[list[Word], list[Word]]:
    """Return the commit script's keys and arguments; each key and list of moves stands once."""
    always = (keys.log, keys.leases, keys.offers, keys.paused, keys.worker_wishes)
    names: dict[str, int] = {key: place for place, key in enumerate(always, start=1)}
    lists: list[Word] = []
    # By identity: tasks that are moved alike share the very tuple, and it lives as long as they do.
    listed: dict[int, int] = {}
    frames: list[Word] = []

    def index(key: str) -> int:
        return names.setdefault(key, len(names) + 1)

    for commit in commits:
        guard = commit.guard
        # A second fact goes before the moves, and so with a list of its commit's own.
        key = id(commit) if commit.second else id(commit.moves)
        moves = listed.get(key)
        if moves is None:
            moves = listed[key] = len(listed) + 1
            lists.append(len(commit.moves) + bool(commit.second))
            if commit.second:
                lists += (_SECOND, index(keys.task(commit.task_id)), commit.second, 0)
            for move in commit.moves:
                score = _KEPT.get(move.op, move.score)
                lists += (move.op.value, index(move.key), move.member, score)
        frames += (
            index(keys.task(commit.task_id)),
            commit.task_id,
            commit.expected,
            commit.record,
            commit.event,
            commit.progress,
            index(guard.key) if guard else 0,
            guard.member if guard else "",
            (guard.score if isinstance(guard, Guard) else "") if guard else 0,
            moves,
        )
    return list(names), [len(listed), *lists, len(commits), *frames]


def _settled(answer: Applied | Refused | LedgerFull) -> Applied | Refused:
    if isinstance(answer, LedgerFull):
        raise answer
    return answer


def _answer(commit: Commit, answer: list[bytes]) -> Applied | Refused:
    if answer[0] != b"":
        return Applied(int(answer[0]), int(answer[1]))
    _, sequence, record, first, following, last, progress = answer
    # Redis answers None where there is nothing; an operation that stands was applied before.
    if following and commit.operation:
        event = parse_event(following)
        if event.operation == commit.operation:
            return Applied(event.sequence, event.time)
    stored = _stored(commit.task_id, [sequence, record, first, last, progress] if sequence else [])
    return Refused(stored, following or b"")


def _stored(task_id: str, fields: list[bytes]) -> Stored | None:
    if not fields:
        return None
    sequence, record, first, last, progress = fields
    return Stored(task_id, int(sequence), record, first, last, progress or b"")


def _started(found: list[bytes]) -> Stored:
    task_id, sequence, record, first, event = found
    return Stored(task_id.decode(), int(sequence), record, first, event)
