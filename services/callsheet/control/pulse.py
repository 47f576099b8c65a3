"""Whether the ledger answers, and in which epoch it is: asked again and again."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.log import Log

#: How often the ledger is asked; a changed epoch is known after this long, even unasked.
INTERVAL: Final = timedelta(seconds=2)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Pulse:
    """Knows the ledger's epoch, as of a moment ago."""

    def __init__(self, log: Log, *, interval: timedelta = INTERVAL) -> None:
        self._log = log
        self._interval = interval
        self._epoch = ""
        #: Whether the ledger answered when it was asked last.
        self.answers = False
        #: Called after each look with whether the ledger answers.
        self.on_look: list[Callable[[bool], None]] = []
        #: Called with the old and the new epoch when it has changed.
        self.on_change: list[Callable[[str, str], None]] = []

    @property
    def epoch(self) -> str:
        """The epoch the ledger was in when it was asked last."""
        return self._epoch

    async def look(self) -> str:
        """Return the epoch as it is now. Raises LedgerUnavailable."""
        try:
            found = await self._log.epoch()
        except LedgerUnavailable as error:
            self._note(answers=False, reason=error.reason)
            raise
        self._note(answers=True)
        before, self._epoch = self._epoch, found
        if before and found != before:
            _log.warning("epoch_changed", before=before, epoch=found)
            for listener in self.on_change:
                listener(before, found)
        return found

    async def run(self) -> None:
        """Look for ever, at every interval."""
        while True:
            # Noted, and told to the listeners, by look itself.
            with contextlib.suppress(LedgerUnavailable):
                await self.look()
            await asyncio.sleep(self._interval.total_seconds())

    def _note(self, *, answers: bool, reason: str = "") -> None:
        if answers != self.answers:
            if answers:
                _log.info("ledger_answered")
            else:
                _log.warning("ledger_lost", reason=reason)
        self.answers = answers
        for listener in self.on_look:
            listener(answers)
