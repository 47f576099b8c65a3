"""Claims tasks for the free slots of one resource class."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from callsheet.broker.gate import Gate
from callsheet.broker.slots import Slots
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LedgerError, LedgerUnavailable
from callsheet.ledger.model import Task
from callsheet.ledger.store import Candidate, Store

#: Hints older than this may hide a more urgent task: look again.
HINTS_STAY_GOOD: Final = timedelta(milliseconds=100)
#: A lost wake-up costs at most this.
LONGEST_SLEEP: Final = timedelta(seconds=1)
#: How long a stopping claimer waits for a claim on its way.
LAST_CLAIM: Final = timedelta(seconds=5)
_AFTER_ERROR: Final = timedelta(seconds=1)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Claimer:
    """Keeps one resource class busy: claims what there is room for, never more.

    *deliver* takes what a claim started; *shuffle* reorders candidates that others were faster at;
    while *gate* is shut it claims nothing.
    """

    def __init__(
        self,
        attempts: Attempts,
        store: Store,
        slots: Slots,
        *,
        queues: tuple[str, ...],
        device: str,
        deliver: Callable[[Sequence[Task]], None],
        shuffle: Callable[[Sequence[Candidate]], list[Candidate]],
        gate: Gate | None = None,
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._slots = slots
        self._queues = queues
        self._device = device
        self._deliver = deliver
        self._shuffle = shuffle
        self._gate = gate or Gate()

    async def run(self) -> None:
        """Claim until cancelled. A claim under way when cancelled is finished and delivered."""
        candidates: Sequence[Candidate] = ()
        while True:
            try:
                candidates = await self._round(candidates)
            except LedgerUnavailable as error:
                _log.warning("claim_failed", reason=error.reason)
                candidates = ()
                await asyncio.sleep(_AFTER_ERROR.total_seconds())
            except LedgerError:
                _log.exception("claim_refused")
                candidates = ()
                await asyncio.sleep(_AFTER_ERROR.total_seconds())

    async def _round(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Claim once, and return what to try next; sleep when nothing is ready."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        await self._may_claim()
        if loop.time() - before > HINTS_STAY_GOOD.total_seconds():
            candidates = ()
        # Shielded: a cancelled claim may have started attempts that somebody must know of.
        claiming = asyncio.ensure_future(self._claim(candidates))
        try:
            started, ready = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await _finished(claiming)
            raise
        if ready:
            missed = candidates and not started
            return self._shuffle(ready) if missed else ready
        if started:
            return ()
        woken = await self._store.await_wake(self._queues, timeout=LONGEST_SLEEP)
        return () if woken is None else (woken,)

    async def _may_claim(self) -> None:
        """Wait for a free slot, and an open gate."""
        while True:
            await self._slots.some_free()
            if self._gate.is_open:
                return
            await self._gate.opened()

    async def _claim(self, candidates: Sequence[Candidate]) -> tuple[int, tuple[Candidate, ...]]:
        free = self._slots.free
        claims = await self._attempts.claim(
            count=free, queues=self._queues, candidates=candidates, device=self._device
        )
        self._slots.take(len(claims.tasks))
        if claims.tasks:
            self._deliver(claims.tasks)
        return len(claims.tasks), claims.ready


async def _finished(claiming: asyncio.Future[tuple[int, tuple[Candidate, ...]]]) -> None:
    """Return when the claim is through, however often its claimer is cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LAST_CLAIM.total_seconds()
    while not claiming.done() and (left := end - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({claiming}, timeout=left)
    # A ledger that is away for longer is not waited for: what it started, the rescuer returns.
    claiming.cancel()
