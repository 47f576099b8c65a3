"""The epoch watch: finds out when the ledger was restored or lost its tail, and says so."""

import asyncio
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.errors import CursorLost
from callsheet.ledger.ids import Ids
from callsheet.ledger.log import LOG_START, Log
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.position import Position
from callsheet.upkeep.mark import Mark, MarkFile, MarkUnreadable

PERIOD: Final = timedelta(seconds=1)
#: Epochs that are remembered; a ledger was not restored more often than that.
EPOCHS_KEPT: Final = 64

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class EpochWatch:
    """Changes the epoch when a fact that the log had is gone although nobody trimmed it.

    The mark is compared with the log itself and not with its end alone, because new facts may have
    moved the end past the mark again.
    """

    name = "epoch_watch"

    def __init__(self, log: Log, ids: Ids, file: MarkFile) -> None:
        self._log = log
        self._ids = ids
        self._file = file
        self._mark: Mark | None = None
        self._is_loaded = False

    async def run_once(self) -> timedelta:
        """Compare the log with the mark, then move the mark on."""
        if not self._is_loaded:
            self._mark = await asyncio.to_thread(self._load)
            self._is_loaded = True
        epoch = await self._log.epoch()
        # Read before the comparison: a server restored in between is caught by the next one.
        end = Position.parse(await self._log.end())
        if self._mark is not None and await self._is_rewound(self._mark, epoch):
            epoch, end = await self._change(self._mark, epoch)
        await self._remember(epoch, end)
        return PERIOD

    async def _is_rewound(self, mark: Mark, epoch: str) -> bool:
        """Whether the ledger is an older one than that of the mark."""
        if epoch != mark.epoch:
            return epoch in mark.earlier_epochs
        if str(mark.end) == LOG_START:
            return False
        if Position.parse(await self._log.end()) < mark.end:
            return True
        try:
            found = await self._log.after(str(mark.end.before), limit=1, timeout=NO_TIME)
        except CursorLost:
            # The end is not behind the mark, so the log was trimmed past it: all had read it.
            return False
        return not found or Position.parse(found[0].position) != mark.end

    async def _change(self, mark: Mark, epoch: str) -> tuple[str, Position]:
        changed = self._ids.epoch()
        await self._log.change_epoch(changed)
        end = await self._log.end()
        _log.critical(
            "ledger_tail_lost",
            mark=str(mark.end),
            end=end,
            epoch=epoch,
            new_epoch=changed,
        )
        return changed, Position.parse(end)

    async def _remember(self, epoch: str, end: Position) -> None:
        before = self._mark
        if before is None:
            mark = Mark(epoch, end)
        elif before.epoch == epoch:
            mark = Mark(epoch, end, before.earlier_epochs)
        else:
            _log.warning("ledger_epoch_changed", epoch=epoch, earlier=before.epoch)
            earlier = (*before.earlier_epochs, before.epoch)
            mark = Mark(epoch, end, earlier[-EPOCHS_KEPT:])
        if mark == before:
            return
        self._mark = mark
        try:
            await asyncio.to_thread(self._file.save, mark)
        except OSError as error:
            # Until it can be written again, a loss is noticed by this process alone.
            _log.error("mark_not_saved", reason=str(error))

    def _load(self) -> Mark | None:
        try:
            return self._file.load()
        except (MarkUnreadable, OSError) as error:
            _log.error("mark_unreadable", reason=str(error))
            return None
