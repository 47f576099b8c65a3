"""How many bytes a project may bring in a day that no task works on.

It is counted in Redis in the role of sessions, so that all gateways know. While that is away, each
gateway counts by itself what it takes meanwhile: uploads go on, and a project has its quota once
in each gateway. A server that forgets what it counted makes the quota larger, never smaller.
"""

import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final, cast

import structlog

from callsheet.gateway.problems import Refused
from callsheet.gateway.side_redis import Script, SideRedis, SideRedisAway

#: How long what was brought counts, unless a task refers to it before.
DAY: Final = timedelta(days=1)
#: Files of one project that are counted at the same time: each takes some memory.
MOST_FILES: Final = 100_000
#: How long a place is held for an upload that says nothing; it is asked for again before.
_HELD: Final = timedelta(minutes=10)
_ASKED_AGAIN: Final = timedelta(minutes=1)
#: When to come again where uploads under way have taken the rest.
_LATER: Final = timedelta(seconds=60)
#: Projects remembered at most while this gateway counts by itself.
_REMEMBERED: Final = 10_000
_MICROSECOND: Final = timedelta(microseconds=1)
#: Where a submission names an upload: the project, and the digits by which the file is counted.
_UPLOAD: Final = re.compile(rb"projects/([a-zA-Z0-9][a-zA-Z0-9_-]{0,63})/uploads/([0-9a-f]{32})\.")

_NOW: Final = r"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# Holds a place for an upload of so many bytes, in the stead of the one it held.
#
# KEYS[1]   files   HASH digest → bytes; total → bytes of all
# KEYS[2]   times   ZSET digest → when it was brought, microseconds
# KEYS[3]   coming  HASH upload → bytes:until when its place is held, microseconds
# ARGV      upload, bytes, most bytes, most files, held and counted for how many microseconds
# Returns   {1, 0, 0}; without room {0, bytes left, microseconds until the oldest counts no more}
_RESERVE: Final = Script(
    _NOW
    + r"""
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or 0)
local past = string.format('%.0f', now - ARGV[6])
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', past, 'LIMIT', 0, 1000)
if #old > 0 then
  for _, digest in ipairs(old) do
    total = total - tonumber(redis.call('HGET', KEYS[1], digest) or 0)
  end
  redis.call('HDEL', KEYS[1], unpack(old))
  redis.call('ZREM', KEYS[2], unpack(old))
  redis.call('HSET', KEYS[1], 'total', string.format('%.0f', math.max(0, total)))
end
local taken, files = math.max(0, total), redis.call('ZCARD', KEYS[2])
local coming = redis.call('HGETALL', KEYS[3])
for i = 1, #coming, 2 do
  local bytes, held = string.match(coming[i + 1], '^(%d+):(%d+)$')
  if tonumber(held) < now then
    redis.call('HDEL', KEYS[3], coming[i])
  elseif coming[i] ~= ARGV[1] then
    taken, files = taken + bytes, files + 1
  end
end
if taken + ARGV[2] > tonumber(ARGV[3]) or files >= tonumber(ARGV[4]) then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  return {0, math.max(0, ARGV[3] - taken), oldest and oldest + ARGV[6] - now or 0}
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ':' .. string.format('%.0f', now + ARGV[5]))
redis.call('PEXPIRE', KEYS[3], math.ceil(ARGV[5] / 1000))
return {1, 0, 0}
"""
)

# Counts a file that was brought in the place of its upload; one that counts already counts once.
#
# KEYS      files, times, coming
# ARGV      upload, digest, bytes, counted for how many microseconds
# Returns   1; 0 when it counted already
_KEEP: Final = Script(
    _NOW
    + r"""
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'total', ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[2])
for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], math.ceil(ARGV[4] / 1000)) end
return 1
"""
)

# Counts files no more: a task refers to them.
#
# KEYS      files, times
# ARGV      digests
# Returns   how many counted
_USED: Final = Script(r"""
local used = 0
for _, digest in ipairs(ARGV) do
  local bytes = redis.call('HGET', KEYS[1], digest)
  if bytes then
    redis.call('HDEL', KEYS[1], digest)
    redis.call('ZREM', KEYS[2], digest)
    if redis.call('HINCRBY', KEYS[1], 'total', '-' .. bytes) < 0 then
      redis.call('HSET', KEYS[1], 'total', 0)
    end
    used = used + 1
  end
end
return used
""")

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class UploadQuota:
    """Counts what projects bring, and lets none bring more than *most* bytes a day."""

    def __init__(
        self, redis: SideRedis, *, cell: str, most: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._redis = redis
        self._prefix = f"callsheet:{{{cell}}}:uploads:"
        self._most = most
        self._clock = clock
        self._own = _OwnCount(most, clock)
        self._is_alone = False

    @asynccontextmanager
    async def taking(self, project: str, *, announced: int) -> AsyncGenerator["Taking"]:
        """Hold a place for an upload while it comes; *announced*: how many bytes it says it has.

        Raises Refused, 429, when the project has brought too much.
        """
        taking = Taking(self, project)
        await taking.need(announced)
        try:
            yield taking
        finally:
            await taking.end()

    async def used(self, project: str, submission: bytes) -> None:
        """Count those uploads of the project no more that an accepted submission names."""
        found = {
            digest for named, digest in _UPLOAD.findall(submission) if named == project.encode()
        }
        if not found:
            return
        try:
            await self._redis.run(_USED, self._keys(project)[:2], *found)
        except SideRedisAway:
            return  # they count until their day is over

    async def reserve(self, upload: str, project: str, *, size: int, own: int) -> int:
        """Hold a place of *size* bytes; return how many of them this gateway counts by itself.

        *own* of them it counts already. Raises Refused, 429.
        """
        span = (_HELD // _MICROSECOND, DAY // _MICROSECOND)
        try:
            reply = await self._redis.run(
                _RESERVE, self._keys(project), upload, size, self._most, MOST_FILES, *span
            )
        except SideRedisAway as away:
            self._note(alone=True, reason=str(away))
            if not self._own.grow(project, size - own):
                raise self._refused(_LATER, "") from away
            return size
        self._note(alone=False)
        has_room, left, wait = cast("tuple[int, int, int]", reply)
        if not has_room:
            raise self._refused(wait * _MICROSECOND or _LATER, f"; {left} are left")
        return own

    async def keep(self, upload: str, project: str, *, digest: str, size: int) -> None:
        """Count a file in the place of its upload."""
        try:
            await self._redis.run(
                _KEEP, self._keys(project), upload, digest, size, DAY // _MICROSECOND
            )
        except SideRedisAway:
            return  # it counts as held for as long as that, or by itself

    async def release(self, upload: str, project: str, *, own: int) -> None:
        """Give back the place of an upload of which nothing was kept."""
        self._own.grow(project, -own)
        try:
            await self._redis.command("HDEL", self._keys(project)[2], upload)
        except SideRedisAway:
            return  # it ends by itself

    def now(self) -> float:
        """Return the time, for what is asked again and again."""
        return self._clock()

    def _keys(self, project: str) -> list[str]:
        return [f"{self._prefix}{project}{part}" for part in ("", ":times", ":coming")]

    def _refused(self, wait: timedelta, left: str) -> Refused:
        return Refused(
            HTTPStatus.TOO_MANY_REQUESTS,
            "UPLOAD_QUOTA_EXHAUSTED",
            f"a project may bring {self._most} bytes and {MOST_FILES} files a day that no task "
            f"refers to{left}",
            retry_after=wait,
        )

    def _note(self, *, alone: bool, reason: str = "") -> None:
        if alone and not self._is_alone:
            _log.warning("upload_quota_counted_alone", reason=reason)
        elif self._is_alone and not alone:
            _log.info("upload_quota_shared")
        self._is_alone = alone


class Taking:
    """The place of one upload."""

    def __init__(self, quota: UploadQuota, project: str) -> None:
        self._quota = quota
        self._project = project
        self._id = secrets.token_urlsafe(12)
        self._held = -1
        self._own = 0
        self._asked = 0.0
        self._is_kept = False

    async def need(self, size: int) -> None:
        """Hold a place of at least *size* bytes. Raises Refused, 429."""
        now = self._quota.now()
        if size <= self._held and now - self._asked < _ASKED_AGAIN.total_seconds():
            return
        wanted = max(size, self._held)
        self._own = await self._quota.reserve(self._id, self._project, size=wanted, own=self._own)
        self._held, self._asked = wanted, now

    async def keep(self, *, sha256: str, size: int) -> None:
        """Count what was brought: it is in the store."""
        self._is_kept = True
        await self._quota.keep(self._id, self._project, digest=sha256[:32], size=size)

    async def end(self) -> None:
        """Give the place back, unless what came was kept."""
        if not self._is_kept:
            await self._quota.release(self._id, self._project, own=self._own)


class _OwnCount:
    """What this gateway took while it could ask nobody: bytes by project, from the first on."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._taken: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def grow(self, project: str, size: int) -> bool:
        """Count more bytes of a project, or fewer; False: it has no room for them."""
        if not size:
            return True
        now = self._clock()
        since, taken = self._taken.pop(project, (now, 0))
        if now - since >= DAY.total_seconds():
            since, taken = now, 0
        has_room = taken + size <= self._most
        self._taken[project] = since, max(0, taken + size if has_room else taken)
        if len(self._taken) > _REMEMBERED:
            self._taken.popitem(last=False)
        return has_room
