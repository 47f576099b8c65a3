"""The log trimmer: drops what every durable reader has read."""

from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.log import Log
from callsheet.upkeep.position import Position

PERIOD: Final = timedelta(seconds=10)
#: A reader this far behind the log's end is told of: nothing after its cursor can go.
FAR_BEHIND: Final = timedelta(hours=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class LogTrimmer:
    """Trims the log up to its slowest durable reader; without one it stays whole.

    Watchers need none of it: who falls behind the trimmed log reads the task's own facts.
    """

    name = "log_trimmer"

    def __init__(self, log: Log) -> None:
        self._log = log

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
        reader, slowest = min(positions.items(), key=lambda item: item[1])
        if end.time - slowest.time > FAR_BEHIND // timedelta(milliseconds=1):
            _log.warning("log_reader_far_behind", reader=reader, cursor=str(slowest), end=str(end))
        if dropped := await self._log.trim(str(slowest)):
            _log.debug("log_trimmed", dropped=dropped, position=str(slowest))
        return PERIOD
