"""Offers of an idle claimer: the next task is started for it in the commit that submits it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.model import Task
from callsheet.ledger.store import Offering

#: How long an offer stands: a claimer that sleeps makes it anew before, and of one that hangs few
#: tasks have to be rescued.
LASTS: Final = timedelta(seconds=2)
_AFTER_ERROR: Final = timedelta(seconds=1)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Offers:
    """Makes offers for the claims of one claimer, and takes what is handed over on them.

    *accept* is given each task once, whether it was heard of at once or by the next claim. *taken*
    is set when there was one: the claimer may offer again.
    """

    def __init__(self, attempts: Attempts, *, device: str, accept: Callable[[Task], None]) -> None:
        self._attempts = attempts
        self._device = device
        self._accept = accept
        self.taken = asyncio.Event()
        #: Operations of offers that may stand, or be taken without our knowledge.
        self._standing: set[int] = set()
        self._known = 0

    def next(self) -> Offering:
        """Return the offer for a claim about to be made; settle it with the claim's answer."""
        self.taken.clear()
        offering = self._attempts.offer(device=self._device, known=self._known, lasts=LASTS)
        self._standing.add(offering.operation)
        return offering

    def none(self) -> Offering:
        """Return what withdraws the offer that stands, and makes no other one."""
        return Offering(self._attempts.worker, self._known)

    def settle(self, made: Offering, handed: tuple[int, Task] | None) -> None:
        """Note that a claim was answered: of all offers, only the one it made may stand."""
        if handed is not None:
            self._take(*handed)
        self._standing &= {made.operation}

    async def listen_until_cancelled(self) -> None:
        """Take what is handed over as soon as it is told."""
        while True:
            try:
                async for operation, task in self._attempts.handed():
                    self._take(operation, task)
            except LedgerError as error:
                # Nobody hands anything over meanwhile; what was told just then, a claim will tell.
                _log.warning("offers_unheard", reason=str(error))
                await asyncio.sleep(_AFTER_ERROR.total_seconds())

    def _take(self, operation: int, task: Task) -> None:
        if operation not in self._standing:
            return
        self._standing.discard(operation)
        self._known = operation
        self._accept(task)
        self.taken.set()
