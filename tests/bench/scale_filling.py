"""Tasks by the million: copies of one that the product made, in every place where it stands.

The commit script would make a million of them in two minutes or more. A copy has the very bytes of
its original under an id of its own, and its own score in each of the original's sorted sets; only
the log has nothing of it, as after trimming.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from callsheet.ledger.redis_cell import RedisCell

#: Copies of one script call: more members than this Lua cannot unpack into one command.
_CHUNK: Final = 2_000

# Makes copies of a task. Scores are microseconds, and no two tasks of a list share one.
#
# ARGV      prefix of tasks' keys, the task's DUMP, number of sorted sets, then for each: key, first
#           score; then the ids of the copies
# Returns   {how many were made}
_COPY: Final = r"""
local prefix, content, sets = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first = 4 + 2 * sets
for i = first, #ARGV do redis.call('RESTORE', prefix .. ARGV[i], 0, content) end
for s = 1, sets do
  local members, score = {}, tonumber(ARGV[3 + 2 * s])
  for i = first, #ARGV do
    members[#members+1] = string.format('%.0f', score + i - first)
    members[#members+1] = ARGV[i]
  end
  redis.call('ZADD', ARGV[2 + 2 * s], unpack(members))
end
return {#ARGV - first + 1}
"""


@dataclass
class Copier:
    """Multiplies one task, as it was when it was looked at."""

    cell: RedisCell
    content: bytes
    #: The sorted sets that the task stands in, with its scores.
    places: Mapping[str, int]
    made: int = 0

    async def copy(self, count: int) -> list[str]:
        """Make so many copies, all on the disk when it returns; return their ids."""
        ids = [self.cell.ids.task_id() for _ in range(count)]
        async with _hurried(self.cell):
            for start in range(0, count, _CHUNK):
                await self._copy(ids[start : start + _CHUNK])
        return ids

    async def _copy(self, ids: list[str]) -> None:
        words: list[str | bytes | int] = [self.cell.keys.task(""), self.content, len(self.places)]
        for place, score in self.places.items():
            words += (place, score + 1 + self.made)
        await self.cell.connection.script(_COPY, [], [*words, *ids])
        self.made += len(ids)


async def copier(cell: RedisCell, task_id: str) -> Copier:
    """Look at a task; the cell should be small still."""
    content = await cell.connection.command("DUMP", cell.keys.task(task_id))
    if content is None:
        raise SystemExit(f"there is no task {task_id} to copy")
    places: dict[str, int] = {}
    for key in await keys_of(cell, "zset"):
        score = cast("float | None", await cell.connection.command("ZSCORE", key, task_id))
        if score is not None:
            places[key] = int(score)
    return Copier(cell, cast("bytes", content), places)


async def keys_of(cell: RedisCell, kind: str) -> list[str]:
    """Return the cell's keys of a Redis type."""
    cursor, found = b"0", list[str]()
    while True:
        reply = await cell.connection.command("SCAN", cursor, "COUNT", 1_000, "TYPE", kind)
        position, keys = cast("tuple[int | bytes, list[bytes]]", reply)
        found += (key.decode() for key in keys if key.startswith(cell.keys.prefix.encode()))
        cursor = str(int(position)).encode()
        if cursor == b"0":
            return found


async def never_rewrites(cell: RedisCell) -> None:
    """Let the server append to its file only: rewriting takes a core and memory at its own time."""
    await _configure(cell, "auto-aof-rewrite-percentage", "0")


async def _configure(cell: RedisCell, name: str, value: str) -> None:
    """Change one setting of the cell's server."""
    await cell.connection.command("CONFIG", "SET", name, value)


@asynccontextmanager
async def _hurried(cell: RedisCell) -> AsyncGenerator[None]:
    """No fsync meanwhile; all is on the disk afterwards."""
    await _configure(cell, "appendfsync", "no")
    try:
        yield
    finally:
        await _configure(cell, "appendfsync", "always")
        # The first write under the new rule brings everything before it to the disk.
        await cell.connection.command("INCR", f"{cell.keys.prefix}bench:fills")
