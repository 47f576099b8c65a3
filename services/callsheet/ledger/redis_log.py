"""The cell's log in Redis: one stream, and beside it cursors, signals and the epoch."""

import secrets
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Final, cast

from callsheet.ledger.errors import CursorLost
from callsheet.ledger.index import Keys
from callsheet.ledger.log import LOG_START, LogEntry
from callsheet.ledger.position import Position
from callsheet.ledger.redis_connection import RedisConnection

# Drops entries before a position, and remembers the furthest one, for what went stays gone.
#
# KEYS      log, trimmed
# ARGV      position's time, position's number
# Returns   how many entries went
_TRIM: Final = r"""#!lua flags=allow-oom
local time, number = string.match(redis.call('GET', KEYS[2]) or '0-0', '^(%d+)-(%d+)$')
time, number = tonumber(time), tonumber(number)
local to = {tonumber(ARGV[1]), tonumber(ARGV[2])}
if to[1] < time or (to[1] == time and to[2] <= number) then return 0 end
local position = ARGV[1] .. '-' .. ARGV[2]
redis.call('SET', KEYS[2], position)
return redis.call('XTRIM', KEYS[1], 'MINID', position)
"""

# Changes the small keys that must change even when memory has run out: a log whose readers cannot
# say how far they are would never be trimmed again.
#
# KEYS[1]   cursors; ARGV reader, position
_SAVE_CURSOR: Final = r"""#!lua flags=allow-oom
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""
# KEYS[1]   epoch; ARGV[1] epoch
# Returns   1
_CHANGE_EPOCH: Final = r"""#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""

# Reads entries after a position, and what tells whether any were missed.
#
# KEYS      log, trimmed
# ARGV      position, limit
# Returns   {last id ever added or '', trimmed position or '', {{id, fields}…}}
_AFTER: Final = r"""
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i+1] end
  end
end
return {last, redis.call('GET', KEYS[2]) or '',
        redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}
"""


class RedisLog:
    """Keeps the log in Redis or Valkey; *new_epoch* makes the text of the first epoch."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, new_epoch: Callable[[], str]
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._new_epoch = new_epoch

    async def after(self, position: str, *, limit: int, timeout: timedelta) -> list[LogEntry]:
        """Return log entries after a position; wait for the first up to the timeout."""
        entries = await self._read(position, limit)
        if entries or timeout <= timedelta(0):
            return entries
        milliseconds = max(1, timeout // timedelta(milliseconds=1))
        reply = await self._connection.command(
            "XREAD", "COUNT", limit, "BLOCK", milliseconds, "STREAMS", self._keys.log, position
        )
        # The position was good a moment ago, and who blocks here is served with the next addition:
        # it cannot have been read by the durable readers and trimmed in between.
        streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply or [])
        return [
            LogEntry(entry.decode(), fields[b"t"].decode(), fields[b"e"])
            for _, entries in streams
            for entry, fields in entries
        ]

    async def _read(self, position: str, limit: int) -> list[LogEntry]:
        place = _place(position)
        keys = [self._keys.log, f"{self._keys.log}:trimmed"]
        last, trimmed, entries = cast(
            "tuple[bytes, bytes, list[tuple[bytes, list[bytes]]]]",
            await self._connection.script(_AFTER, keys, [position, limit]),
        )
        if place > _place(last.decode() or LOG_START) or place < _place(trimmed.decode() or "0-0"):
            raise CursorLost(position)
        return [
            LogEntry(entry.decode(), fields[1].decode(), fields[3]) for entry, fields in entries
        ]

    async def start(self) -> str:
        """Return the position after which the log holds everything."""
        trimmed = await self._connection.command("GET", f"{self._keys.log}:trimmed")
        return cast("bytes", trimmed).decode() if trimmed is not None else LOG_START

    async def end(self) -> str:
        """Return the position of the newest log entry ever added."""
        keys = [self._keys.log, f"{self._keys.log}:trimmed"]
        reply = await self._connection.script(_AFTER, keys, ["9" * 15, 1])
        return cast("bytes", reply[0]).decode() or LOG_START

    async def trim(self, position: str) -> int:
        """Drop log entries before the position; answer how many went."""
        keys = [self._keys.log, f"{self._keys.log}:trimmed"]
        return await self._connection.number(_TRIM, keys, _place(position))

    async def length(self) -> int:
        """Return how many entries the log holds."""
        return cast("int", await self._connection.command("XLEN", self._keys.log))

    async def cursors(self) -> dict[str, str]:
        """Return every durable reader's position in the log."""
        reply = await self._connection.command("HGETALL", self._keys.cursors)
        pairs = cast("dict[bytes, bytes]", reply)
        return {reader.decode(): position.decode() for reader, position in pairs.items()}

    async def save_cursor(self, reader: str, position: str) -> None:
        """Remember how far a durable reader has come; the log is kept behind it."""
        await self._connection.number(_SAVE_CURSOR, [self._keys.cursors], [reader, position])

    async def publish(self, signal: bytes) -> None:
        """Tell whoever listens now; nothing is kept."""
        await self._connection.command("PUBLISH", self._keys.signals, signal)

    def signals(self) -> AsyncGenerator[bytes, None]:
        """Yield published signals until closed; raises LedgerUnavailable when the link breaks."""
        return self._connection.published(self._keys.signals)

    async def epoch(self) -> str:
        """Return the ledger's epoch, making the first one when there is none."""
        found = await self._connection.command("GET", self._keys.epoch)
        if found is None:
            await self._connection.command("SET", self._keys.epoch, self._new_epoch(), "NX")
            found = await self._connection.command("GET", self._keys.epoch)
        return cast("bytes", found).decode()

    async def change_epoch(self, epoch: str) -> None:
        """Set a new epoch: the ledger was restored or lost its tail."""
        await self._connection.number(_CHANGE_EPOCH, [self._keys.epoch], [epoch])

    async def identity(self) -> str:
        """Return what tells this ledger from every other one, made once and never changed."""
        found = await self._connection.command("GET", self._keys.identity)
        if found is None:
            await self._connection.command("SET", self._keys.identity, secrets.token_hex(16), "NX")
            found = await self._connection.command("GET", self._keys.identity)
        return cast("bytes", found).decode()

    async def instance(self) -> str:
        """Return what changes whenever the server starts anew."""
        server = cast("dict[str, str]", await self._connection.command("INFO", "server"))
        return str(server["run_id"])


def _place(position: str) -> Position:
    try:
        return Position.parse(position)
    except ValueError as error:
        raise CursorLost(position) from error
