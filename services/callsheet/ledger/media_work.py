"""Media work: which tasks' artifacts are to be registered, and whose webhooks wait for it.

Any sidecar claims tasks under a lease. A webhook that waits is recorded as a delivery once its task
has its media, or its time has come: what it then says is in the delivery, and stays.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, cast

from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, span
from callsheet.ledger.media_scripts import (
    ADD,
    CLAIM,
    FORGET,
    LOCK,
    RELEASED,
    RENEW,
    RETRY,
    SEAL,
    SETTLE,
    UNLOCK,
)
from callsheet.ledger.redis_connection import RedisConnection, Word

_LONGEST_ERROR: Final = 500


class MediaRecord(NamedTuple):
    """What is known of the tries so far."""

    tries: int = 0
    #: Why the last one failed.
    error: str = ""


class ClaimedMedia(NamedTuple):
    """A task whose artifacts are to be registered, under a lease."""

    task_id: str
    record: MediaRecord
    lease_expire: int


class DeadMedia(NamedTuple):
    """A task whose media were given up."""

    task_id: str
    record: MediaRecord
    #: When that was.
    time: datetime


class MediaClaims(NamedTuple):
    """What a claim took, and how long until the next task is due; None: there is none."""

    tasks: tuple[ClaimedMedia, ...]
    next_due: timedelta | None


class ReleasedHolds(NamedTuple):
    """Tasks whose webhooks have waited long enough, and how long until the next one's has."""

    task_ids: tuple[str, ...]
    next_due: timedelta | None


class MediaWork:
    """Keeps the media work of a cell. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def add(self, tasks: Mapping[str, int | None]) -> int:
        """Add tasks to what is to be registered; answer how many were not there.

        A task's webhook waits until the given time in microseconds; None: there is none that does.
        """
        arguments: list[Word] = []
        for task_id, until in tasks.items():
            arguments += (task_id, "" if until is None else until)
        return await self._connection.number(ADD, self._all, arguments) if tasks else 0

    async def claim(self, *, limit: int, lease: timedelta) -> MediaClaims:
        """Take tasks whose next try is due, under a lease."""
        places = [self._keys.media_due, self._keys.media_records]
        reply = await self._connection.script(CLAIM, places, [span(lease), limit])
        now, expire, later, taken = cast(
            "tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]", reply
        )
        tasks = [
            ClaimedMedia(task_id.decode(), _decode(record), int(expire))
            for task_id, record in taken
        ]
        return MediaClaims(tuple(tasks), _wait(now, later))

    async def renew(self, claimed: ClaimedMedia, *, lease: timedelta) -> ClaimedMedia | None:
        """Extend the lease; None: it was lost to another sidecar."""
        arguments = [claimed.task_id, claimed.lease_expire, span(lease)]
        reply = await self._connection.script(RENEW, [self._keys.media_due], arguments)
        expire = cast("bytes", reply)
        return claimed._replace(lease_expire=int(expire)) if expire else None

    async def settle(
        self,
        claimed: ClaimedMedia,
        record: MediaRecord | None,
        *,
        retry_delay: timedelta | None = None,
        releases: bool = False,
    ) -> bool:
        """Write what became of a try; without a *record* the work is done.

        Without a *retry_delay* there is no further try. When it *releases*, the task's webhook
        waits no longer. False: the lease was lost to another sidecar, whose word counts.
        """
        arguments: list[Word] = [
            claimed.task_id,
            claimed.lease_expire,
            b"" if record is None else _encode(record),
            "" if retry_delay is None else span(retry_delay),
            "release" if releases else "",
        ]
        return await self._connection.number(SETTLE, self._all, arguments) == 1

    async def forget(self, *, retention: timedelta, limit: int) -> int:
        """Forget up to *limit* tasks that were given up that long ago; answer how many went."""
        places = [self._keys.media_dead, self._keys.media_records]
        return await self._connection.number(FORGET, places, [span(retention), limit])

    async def dead(self, *, limit: int) -> list[DeadMedia]:
        """Return the tasks whose media were given up, the latest first."""
        reply = await self._connection.command(
            "ZRANGE", self._keys.media_dead, 0, limit - 1, "REV", "WITHSCORES"
        )
        found = cast("list[tuple[bytes, float]]", reply)
        if not found:
            return []
        records = await self._connection.command(
            "HMGET", self._keys.media_records, *(task_id for task_id, _ in found)
        )
        return [
            DeadMedia(task_id.decode(), _decode(record or b""), instant(int(time)))
            for (task_id, time), record in zip(
                found, cast("list[bytes | None]", records), strict=True
            )
        ]

    async def retry(self, task_ids: Sequence[str]) -> list[str]:
        """Try again at once, by the whole schedule, what was given up; answer which tasks were."""
        places = [self._keys.media_due, self._keys.media_records, self._keys.media_dead]
        reply = await self._connection.script(RETRY, places, list(task_ids)) if task_ids else []
        return [each.decode() for each in cast("list[bytes]", reply)]

    async def released(self, *, limit: int) -> ReleasedHolds:
        """Return the tasks whose webhooks have waited long enough."""
        reply = await self._connection.script(RELEASED, [self._keys.media_holds], [limit])
        now, later, task_ids = cast("tuple[bytes, bytes, list[bytes]]", reply)
        return ReleasedHolds(tuple(each.decode() for each in task_ids), _wait(now, later))

    async def waiting(self, task_ids: Sequence[str]) -> set[str]:
        """Return which of the tasks are still to be registered."""
        if not task_ids:
            return set()
        reply = await self._connection.command("ZMSCORE", self._keys.media_due, *task_ids)
        scores = cast("list[float | None]", reply)
        return {each for each, score in zip(task_ids, scores, strict=True) if score is not None}

    async def held(self, task_ids: Sequence[str]) -> list[str]:
        """Return which of the tasks have a webhook that waits."""
        if not task_ids:
            return []
        reply = await self._connection.command("ZMSCORE", self._keys.media_holds, *task_ids)
        scores = cast("list[float | None]", reply)
        return [each for each, score in zip(task_ids, scores, strict=True) if score is not None]

    async def drop_holds(self, task_ids: Sequence[str]) -> None:
        """Forget that the webhooks of these tasks waited: they are recorded."""
        if task_ids:
            await self._connection.command("ZREM", self._keys.media_holds, *task_ids)

    async def lock(self, name: str, holder: str, *, duration: timedelta) -> bool:
        """Take a lock, or keep it; False: another holder has it.

        It runs out by itself, so that it spares work and guards nothing.
        """
        places = [self._keys.media_lock(name)]
        return await self._connection.number(LOCK, places, [holder, _milliseconds(duration)]) == 1

    async def is_locked(self, name: str, holder: str) -> bool:
        """Whether the lock cannot be taken now, because another holder has it or it is sealed."""
        found = await self._connection.command("GET", self._keys.media_lock(name))
        return found is not None and cast("bytes", found).decode() != holder

    async def seal(self, name: str, holder: str, *, duration: timedelta) -> None:
        """Turn a lock that is held into one that nobody gets, its holder neither, for that long."""
        places = [self._keys.media_lock(name)]
        await self._connection.number(SEAL, places, [holder, _milliseconds(duration)])

    async def unlock(self, name: str, holder: str) -> None:
        """Give a lock back, if it is held."""
        await self._connection.number(UNLOCK, [self._keys.media_lock(name)], [holder])

    @property
    def _all(self) -> list[str]:
        keys = self._keys
        return [keys.media_due, keys.media_records, keys.media_dead, keys.media_holds]


def _encode(record: MediaRecord) -> bytes:
    fields = {"version": 1, "tries": record.tries, "error": record.error[:_LONGEST_ERROR]}
    return json.dumps(fields).encode()


def _decode(content: bytes) -> MediaRecord:
    """Return what is kept; of what a newer version kept, nothing is known."""
    fields = cast("dict[str, object]", json.loads(content)) if content else {}
    match fields:
        case {"version": 1, "tries": int(tries), "error": str(error)}:
            return MediaRecord(tries, error)
        case _:
            return MediaRecord()


def _milliseconds(duration: timedelta) -> int:
    return max(1, duration // timedelta(milliseconds=1))


def _wait(now: bytes, later: bytes) -> timedelta | None:
    if not later:
        return None
    return max(timedelta(0), timedelta(microseconds=float(later) - float(now)))
