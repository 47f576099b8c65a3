"""How far the log's durable readers are behind its end, or with one task; who does their work."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

from callsheet.ledger import graph_progress
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.codec import parse_event, project_of
from callsheet.ledger.errors import CursorLost, TaskNotFound
from callsheet.ledger.graph_progress import FactKey, GraphProgress
from callsheet.ledger.index import Keys
from callsheet.ledger.log import Log
from callsheet.ledger.messages import timestamp
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.position import Position
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Store, Stored
from callsheet.v1.operations_service_pb2 import LogReader, TaskReading

#: The role that one process of a cell holds while it reads for the reader of that name.
ROLES: Final[Mapping[str, str]] = MappingProxyType(
    {"sidecar": "sidecar-tailer", graph_progress.READER: graph_progress.ROLE}
)

#: Every plane needs it, so it is told of before it has a cursor.
_ALWAYS: Final = frozenset({"sidecar"})
#: Entries behind a cursor among which a fact is looked for that is as old as the cursor.
_LOOKED_AT: Final = 256

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

    def __init__(self, connection: RedisConnection, keys: Keys, log: Log, store: Store) -> None:
        self._connection = connection
        self._keys = keys
        self._log = log
        self._store = store
        self._graph = GraphProgress(connection, keys)

    async def all(self, principal: Principal, *, task_id: str = "") -> list[LogReader]:
        """Return the readers, by name; those whose role is unknown here are never held.

        With a task they also tell how far they are with it. Raises TaskNotFound.
        """
        principal.require(Role.OPERATE)
        task = await self._task(principal, task_id) if task_id else None
        cursors = await self._log.cursors()
        names = sorted(cursors.keys() | _ALWAYS)
        now, held = await self._held([ROLES.get(name, name) for name in names])
        found: list[LogReader] = []
        for name, is_held in zip(names, held, strict=True):
            reader = LogReader(name=name, is_held=is_held)
            reader.lag.FromTimedelta(await self._lag(cursors.get(name), now))
            if task is not None:
                reader.task.CopyFrom(await self._reading(name, task, cursors.get(name)))
            found.append(reader)
        return found

    async def _task(self, principal: Principal, task_id: str) -> Stored:
        (stored,) = await self._store.read([task_id])
        if stored is None or project_of(stored) not in principal.projects:
            raise TaskNotFound(task_id)
        return stored

    async def _reading(self, name: str, task: Stored, cursor: str | None) -> TaskReading:
        if cursor is None or not await self._has_passed(cursor, task):
            return TaskReading()
        if name != graph_progress.READER:
            return TaskReading(is_done=True)
        recorded = parse_event(task.last).time
        gap = (await self._graph.read()).gap
        if gap is not None and recorded >= gap.since:
            return TaskReading()  # the log told it no more of some facts since then
        key = FactKey(await self._log.epoch(), task.task_id, task.sequence)
        if refusal := await self._graph.refusal(key):
            return TaskReading(refusal=refusal)
        done = await self._graph.told_time(recorded)
        return TaskReading(is_done=True, done_time=done and timestamp(done))

    async def _has_passed(self, cursor: str, task: Stored) -> bool:
        """Whether the task's latest fact stands in the log at the cursor or before it."""
        if Position.parse(cursor).time < parse_event(task.last).time // 1000:
            return False
        try:
            entries = await self._log.after(cursor, limit=_LOOKED_AT, timeout=NO_TIME)
        except CursorLost:
            return False
        return not any(
            entry.task_id == task.task_id and parse_event(entry.event).sequence == task.sequence
            for entry in entries
        )

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
