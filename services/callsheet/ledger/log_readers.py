"""How far the log's durable readers are behind its end, and whether anybody does their work."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

from callsheet.ledger import graph_progress
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import CursorLost
from callsheet.ledger.index import Keys
from callsheet.ledger.log import Log
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.position import Position
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.v1.operations_service_pb2 import LogReader

#: The role that one process of a cell holds while it reads for the reader of that name.
ROLES: Final[Mapping[str, str]] = MappingProxyType(
    {"sidecar": "sidecar-tailer", graph_progress.READER: graph_progress.ROLE}
)

#: Every plane needs it, so it is told of before it has a cursor.
_ALWAYS: Final = frozenset({"sidecar"})

# Tells which roles are held, and what time it is.
#
# KEYS      a role's hash for each
# Returns   {now in microseconds, {1 when it is held, else 0}…}
_ROLES_HELD: Final = r"""
local T = redis.call('TIME')
local now = T[1] * 1000000 + T[2]
local out = {}
for i, k in ipairs(KEYS) do
  local till = redis.call('HGET', k, 'until')
  out[i] = till and tonumber(till) > now and 1 or 0
end
return {string.format('%.0f', now), out}
"""


class LogReaders:
    """Looks at the readers' cursors; whatever else they keep is theirs."""

    def __init__(self, connection: RedisConnection, keys: Keys, log: Log) -> None:
        self._connection = connection
        self._keys = keys
        self._log = log

    async def all(self, principal: Principal) -> list[LogReader]:
        """Return the readers, by name; those whose role is unknown here are never held."""
        principal.require(Role.OPERATE)
        cursors = await self._log.cursors()
        names = sorted(cursors.keys() | _ALWAYS)
        now, held = await self._held([ROLES.get(name, name) for name in names])
        found: list[LogReader] = []
        for name, is_held in zip(names, held, strict=True):
            reader = LogReader(name=name, is_held=is_held)
            reader.lag.FromTimedelta(await self._lag(cursors.get(name), now))
            found.append(reader)
        return found

    async def _lag(self, cursor: str | None, now: int) -> timedelta:
        """Return how long the first fact after the cursor has been in the log."""
        position = cursor if cursor is not None else await self._log.start()
        try:
            waiting = await self._log.after(position, limit=1, timeout=NO_TIME)
            if not waiting:
                return NO_TIME
            since = Position.parse(waiting[0].position).time
        except CursorLost:
            since = _milliseconds(position)
        return max(NO_TIME, timedelta(milliseconds=now // 1000 - since))

    async def _held(self, roles: Sequence[str]) -> tuple[int, list[bool]]:
        keys = [self._keys.hold(role) for role in roles]
        now, held = await self._connection.script(_ROLES_HELD, keys, [])
        return int(cast("bytes", now)), [bool(each) for each in cast("list[int]", held)]


def _milliseconds(position: str) -> int:
    try:
        return Position.parse(position).time
    except ValueError:
        return 0
