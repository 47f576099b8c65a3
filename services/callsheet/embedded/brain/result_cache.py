"""Results that may be asked for again, each for its time, and never more than there is room for."""

import json
from typing import Final

from callsheet.embedded.brain.errors import BrainRefused, Reason
from callsheet.embedded.brain.fields import instant
from callsheet.embedded.brain.graph import Rows
from callsheet.embedded.brain.messages import (
    CachedResult,
    CacheTaskResult,
    GetCachedResult,
    ResultCached,
)

MOST_RESULTS: Final = 20_000
MOST_BYTES: Final = 256 * 2**20
#: Results that are given up at a time when room is needed.
_STEP: Final = 200

_PUT: Final = """
MERGE (c:CachedResult {key: $key})
SET c.task_id = $task_id, c.result = $result, c.size = $size, c.expire_time = $expire_time
"""
_GET: Final = """
MATCH (c:CachedResult {key: $key}) WHERE c.expire_time > $now
RETURN c.task_id, c.result, c.expire_time
"""
_TOTALS: Final = "MATCH (c:CachedResult) RETURN count(*), CAST(coalesce(sum(c.size), 0) AS INT64)"
_DROP_EXPIRED: Final = "MATCH (c:CachedResult) WHERE c.expire_time <= $now DELETE c"
_SOONEST: Final = "MATCH (c:CachedResult) RETURN c.key ORDER BY c.expire_time LIMIT $limit"
_DROP: Final = "UNWIND $keys AS k MATCH (c:CachedResult {key: k}) DELETE c"


def put(rows: Rows, asked: CacheTaskResult, *, now: int) -> ResultCached:
    """Keep a result, in place of one of the same key; *now* is in microseconds since 1970.

    What has expired makes room, and if that is not enough, what would expire soonest.
    """
    result = json.dumps(asked.result, ensure_ascii=False)
    size = len(result.encode())
    if size > MOST_BYTES:
        raise BrainRefused(Reason.LIMIT_REACHED, f"the result has {size} bytes")
    _make_room(rows, size=size, now=now)
    expire_time = now + round(asked.ttl_seconds * 1_000_000)
    rows(
        _PUT,
        key=_key(asked.project, asked.key),
        task_id=asked.task_id,
        result=result,
        size=size,
        expire_time=expire_time,
    )
    return ResultCached(expire_time=instant(expire_time))


def get(rows: Rows, asked: GetCachedResult, *, now: int) -> CachedResult:
    """Return the result of the key if its time is not over."""
    found = rows(_GET, key=_key(asked.project, asked.key), now=now)
    if not found:
        return CachedResult(found=False)
    task_id, result, expire_time = found[0]
    return CachedResult(
        found=True, task_id=task_id, result=json.loads(result), expire_time=instant(expire_time)
    )


def _make_room(rows: Rows, *, size: int, now: int) -> None:
    if not _is_full(rows, size):
        return
    rows(_DROP_EXPIRED, now=now)
    while _is_full(rows, size):
        rows(_DROP, keys=[key for (key,) in rows(_SOONEST, limit=_STEP)])


def _is_full(rows: Rows, size: int) -> bool:
    count, total = rows(_TOTALS)[0]
    return count >= MOST_RESULTS or (count > 0 and total + size > MOST_BYTES)


def _key(project: str, key: str) -> str:
    return f"{project}/{key}"
