"""Claims tasks for the free slots of one resource class."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from callsheet.broker.chooser import Chooser
from callsheet.broker.gate import Gate
from callsheet.broker.offers import Offers
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

Claimed = TypeVar("Claimed")

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Claimer:
    """Keeps one resource class busy: claims what there is room for, never more.

    *deliver* takes what a claim started; *shuffle* reorders candidates that others were faster at;
    while *gate* is shut it claims nothing. With *offers_itself*, a task that finds it idle is
    started for it by the commit that submits the task. With a *chooser*, what a claim starts is run
    together, in one slot.
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
        offers_itself: bool = False,
        chooser: Chooser | None = None,
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._slots = slots
        self._queues = queues
        self._device = device
        self._deliver = deliver
        self._shuffle = shuffle
        self._gate = gate or Gate()
        self._chooser = chooser
        self._offers: Offers | None = None
        if offers_itself:
            self._offers = Offers(attempts, device=device, accept=self._accept)
        #: Waits for a wake-up for as long as nothing else ends the claimer's sleep.
        self._waking: asyncio.Task[Candidate | None] | None = None

    async def run(self) -> None:
        """Claim until cancelled. A claim under way when cancelled is finished and delivered."""
        if self._offers is None:
            await self._claim_until_cancelled()
            return
        listening = asyncio.create_task(self._offers.listen_until_cancelled())
        try:
            await self._claim_until_cancelled()
        finally:
            if self._waking is not None:
                self._waking.cancel()
            await _finished(asyncio.ensure_future(self._end_offers()))
            listening.cancel()

    async def _claim_until_cancelled(self) -> None:
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
            # Whoever chooses looks at all of them, the most urgent first.
            missed = candidates and not started and self._chooser is None
            return self._shuffle(ready) if missed else ready
        if started and (self._offers is None or not self._slots.free):
            return ()
        woken = await self._woken()
        # Whoever chooses looks at what there is beside the hint.
        return () if woken is None or self._chooser is not None else (woken,)

    async def _woken(self) -> Candidate | None:
        """Sleep until there may be something to claim, or to offer anew."""
        if self._offers is None:
            return await self._store.await_wake(self._queues, timeout=LONGEST_SLEEP)
        if self._waking is None:
            waking = self._store.await_wake(self._queues, timeout=LONGEST_SLEEP)
            self._waking = asyncio.ensure_future(waking)
        # Not broken off when an offer was taken: a wake-up that is on its way would be lost.
        taken = asyncio.ensure_future(self._offers.taken.wait())
        closed = asyncio.ensure_future(self._gate.closed())
        try:
            await asyncio.wait({self._waking, taken, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
            closed.cancel()
        if not self._waking.done():
            return None
        waking, self._waking = self._waking, None
        return waking.result()

    async def _may_claim(self) -> None:
        """Wait for a free slot, and an open gate."""
        while True:
            await self._slots.some_free()
            if self._gate.is_open:
                return
            await self._withdraw()
            await self._gate.opened()

    async def _claim(self, candidates: Sequence[Candidate]) -> tuple[int, tuple[Candidate, ...]]:
        if self._chooser is not None:
            return await self._claim_together(candidates, self._chooser)
        offering = self._offers.next() if self._offers is not None else None
        claims = await self._attempts.claim(
            count=self._slots.free,
            queues=self._queues,
            candidates=candidates,
            device=self._device,
            offering=offering,
        )
        self._slots.take(len(claims.tasks))
        if claims.tasks:
            self._deliver(claims.tasks)
        if self._offers is not None and offering is not None:
            self._offers.settle(offering, claims.handed)
        return len(claims.tasks), claims.ready

    async def _claim_together(
        self, candidates: Sequence[Candidate], chooser: Chooser
    ) -> tuple[int, tuple[Candidate, ...]]:
        """Claim one of the candidates for one slot, and then who runs together with it."""
        order = await chooser.order(candidates) if candidates else ()
        if candidates and not order:
            return 0, ()  # all of it is left to others: look again in a while
        # Others choose the same one: behind it stands what is taken if they were faster.
        claims = await self._attempts.claim(
            count=1 if order else 0,
            queues=self._queues,
            candidates=order,
            device=self._device,
            window=chooser.window,
        )
        started, ready = list(claims.tasks), claims.ready
        if not started:
            return 0, ready
        self._slots.take(1)
        try:
            if joining := chooser.company(started[0]):
                more = await self._attempts.claim(
                    count=len(joining),
                    queues=self._queues,
                    candidates=joining,
                    device=self._device,
                )
                started += more.tasks
                ready = more.ready
        finally:
            chooser.note_taken(started)
            self._deliver(started)
        return len(started), ready

    async def _withdraw(self) -> None:
        """Take back the offer that may stand; what was handed over meanwhile is delivered."""
        if self._offers is None:
            return
        offering = self._offers.none()
        claims = await self._attempts.claim(
            count=0, queues=(), candidates=(), device=self._device, offering=offering
        )
        self._offers.settle(offering, claims.handed)

    async def _end_offers(self) -> None:
        try:
            await self._withdraw()
        except LedgerError as error:
            # It stands for a moment only; what is handed over meanwhile, the rescuer returns.
            _log.warning("offer_not_withdrawn", reason=str(error))

    def _accept(self, task: Task) -> None:
        self._slots.take(1)
        self._deliver((task,))


async def _finished(claiming: asyncio.Future[Claimed]) -> None:
    """Return when the claim is through, however often its claimer is cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LAST_CLAIM.total_seconds()
    while not claiming.done() and (left := end - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({claiming}, timeout=left)
    # A ledger that is away for longer is not waited for: what it started, the rescuer returns.
    claiming.cancel()
