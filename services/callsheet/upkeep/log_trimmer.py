"""The log trimmer: drops what every durable reader has read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

import structlog

from callsheet.ledger.log import Log
from callsheet.ledger.position import Position
from callsheet.ledger.store import Store

PERIOD: Final = timedelta(seconds=10)
#: A reader this far behind the log's end is told of: nothing after its cursor can go.
FAR_BEHIND: Final = timedelta(hours=1)
#: The part of the store's memory past which nothing is kept for readers that give way: well before
#: new tasks are refused for want of it.
FULL: Final = 0.6

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of the log's end is kept whoever has read it: no longer, and about as many facts."""

    time: timedelta
    entries: int

    def begins(self, start: Position, end: Position, *, length: int) -> Position:
        """Return where that end begins in a log with that many entries, by how dense they are."""
        milliseconds = self.time // timedelta(milliseconds=1)
        if length > self.entries:
            milliseconds = min(milliseconds, (end.time - start.time) * self.entries // length)
        return Position(max(0, end.time - milliseconds), 0)


#: Enough for a watcher of many tasks whose stream broke, or whose server was replaced.
KEPT: Final = Kept(timedelta(minutes=5), 20_000)


class LogTrimmer:
    """Trims the log up to its slowest durable reader; without one it stays whole.

    Watchers of one task need none of it: who falls behind the trimmed log reads the task's own
    facts. Watchers of many go on by what is *kept* at its end, unless the store fills up. A reader
    of *giving_way* finds elsewhere what it missed: with more entries than its number in the log, or
    a store that fills up, nothing is kept for it any more.
    """

    name = "log_trimmer"

    def __init__(
        self,
        log: Log,
        store: Store,
        *,
        giving_way: Mapping[str, int] = MappingProxyType({}),
        kept: Kept | None = None,
    ) -> None:
        self._log = log
        self._store = store
        self._giving_way = giving_way
        self._kept = kept

    async def run_once(self) -> timedelta:
        """Trim once."""
        cursors = await self._log.cursors()
        end = Position.parse(await self._log.end())
        if not cursors:
            return PERIOD
        try:
            positions = {reader: Position.parse(text) for reader, text in cursors.items()}
        except ValueError:
            _log.exception("log_cursor_unreadable", cursors=cursors)
            return PERIOD
        if max(positions.values()) > end:
            # The log lost its tail. Its reader has yet to notice and to come back.
            _log.warning("log_cursor_ahead", cursors=cursors, end=str(end))
            return PERIOD
        passed_over = await self._passed_over(positions)
        positions = {name: at for name, at in positions.items() if name not in passed_over}
        if not positions:
            return PERIOD
        reader, slowest = min(positions.items(), key=lambda item: item[1])
        if end.time - slowest.time > FAR_BEHIND // timedelta(milliseconds=1):
            _log.warning("log_reader_far_behind", reader=reader, cursor=str(slowest), end=str(end))
        until = min(slowest, await self._kept_from(end))
        if dropped := await self._log.trim(str(until)):
            _log.debug("log_trimmed", dropped=dropped, position=str(until))
            for name, at in passed_over.items():
                if at < until:
                    _log.warning("log_reader_given_up", reader=name, cursor=str(at))
        return PERIOD

    async def _kept_from(self, end: Position) -> Position:
        """Return where the part of the log begins that is kept whoever has read it."""
        if self._kept is None or await self._is_full():
            return end
        start = Position.parse(await self._log.start())
        return self._kept.begins(start, end, length=await self._log.length())

    async def _is_full(self) -> bool:
        used, limit = await self._store.room()
        return limit > 0 and used > FULL * limit

    async def _passed_over(self, positions: Mapping[str, Position]) -> dict[str, Position]:
        """Return the readers that the log is not kept for."""
        given = {name: at for name, at in positions.items() if name in self._giving_way}
        if not given:
            return {}
        length, is_full = await self._log.length(), await self._is_full()
        return {
            name: at for name, at in given.items() if is_full or length > self._giving_way[name]
        }
