"""The courier: claims deliveries that are due, has them sent, and writes what became of them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.deliveries import (
    ClaimedDelivery,
    Deliveries,
    DeliveryRecord,
    DeliveryState,
)
from callsheet.ledger.errors import LedgerError
from callsheet.sidecar.pausing import set_within
from callsheet.sidecar.retries import retry_delay
from callsheet.sidecar.sending import Outcome, Sender

#: Deliveries in flight at a time, and at most so many of one origin.
IN_FLIGHT: Final = 128
PER_ORIGIN: Final = 32

#: How long what another sidecar's tailer recorded may go unseen.
_LOOK_EVERY: Final = timedelta(seconds=1)
_PAUSE: Final = timedelta(seconds=1)
#: How often the writing of an outcome is tried; after that the delivery is made again.
_SETTLE_TRIES: Final = 60
_LONGEST_ERROR: Final = 500

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class Terms:
    """How patient deliveries are.

    *schedule* holds the waits between tries; *lease* outlasts a try and the writing of its outcome;
    *retention* is how long an ended delivery is kept.
    """

    schedule: Sequence[timedelta]
    lease: timedelta
    retention: timedelta


class Courier:
    """Takes its share of the cell's due deliveries; *jitter* returns chances in [0, 1)."""

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        *,
        terms: Terms,
        jitter: Callable[[], float],
        in_flight: int = IN_FLIGHT,
        per_origin: int = PER_ORIGIN,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._terms = terms
        self._jitter = jitter
        self._in_flight = in_flight
        self._per_origin = per_origin
        self._flying: set[asyncio.Task[None]] = set()
        self._by_origin: Counter[str] = Counter()
        self._look = asyncio.Event()

    def wake(self) -> None:
        """Look at once for due deliveries."""
        self._look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop, and then end what is in flight."""
        stopping = asyncio.create_task(self._look_at(stop))
        try:
            while not stop.is_set():
                self._look.clear()
                try:
                    wait = await self._claim()
                except LedgerError as error:
                    _log.warning("claiming_interrupted", reason=str(error))
                    await set_within(stop, _PAUSE)
                else:
                    await set_within(self._look, wait)
            await self._landed()
        finally:
            stopping.cancel()
            for flying in self._flying:
                flying.cancel()
            await self._landed()

    async def _claim(self) -> timedelta:
        """Claim what there is room for; return how long to wait before the next look."""
        free = self._in_flight - len(self._flying)
        if free <= 0:
            return _LOOK_EVERY
        # As many more as can be full, so that full origins never hide one with room.
        due = await self._deliveries.due(limit=2 * self._in_flight)
        most: dict[str, int] = {}
        for origin in due.origins:
            room = min(self._room(origin, free=free), free)
            if room > 0:
                most[origin] = room
                free -= room
        if not most:
            return min(_LOOK_EVERY, due.next_due or _LOOK_EVERY)
        heads = await self._deliveries.claim(most, lease=self._terms.lease)
        if heads.unreadable:
            _log.error("deliveries_unreadable", count=heads.unreadable)
        for claimed in heads.deliveries:
            self._fly(claimed)
        return timedelta(0)

    def _room(self, origin: str, *, free: int) -> int:
        """Return how many more the origin may have in flight: never all that is left."""
        share = min(self._per_origin, max(1, free // 4))
        return share - self._by_origin[origin]

    def _fly(self, claimed: ClaimedDelivery) -> None:
        flying = asyncio.create_task(self._deliver(claimed))
        self._flying.add(flying)
        self._by_origin[claimed.origin] += 1

        def land(landed: asyncio.Task[None]) -> None:
            self._flying.discard(landed)
            self._by_origin[claimed.origin] -= 1
            if not self._by_origin[claimed.origin]:
                del self._by_origin[claimed.origin]
            self._look.set()
            if not landed.cancelled() and (error := landed.exception()) is not None:
                # Its lease runs out, and the delivery is due again.
                _log.error("delivery_crashed", webhook_id=claimed.record.id, exc_info=error)

        flying.add_done_callback(land)

    async def _deliver(self, claimed: ClaimedDelivery) -> None:
        try:
            outcome = await self._sender.send(claimed)
        except LedgerError as error:
            # Nothing was sent; the lease runs out, and the delivery is due again.
            _log.warning("delivery_interrupted", webhook_id=claimed.record.id, reason=str(error))
            return
        record, wait = judged(
            claimed.record, outcome, schedule=self._terms.schedule, jitter=self._jitter()
        )
        await self._settle(claimed, record, wait)

    async def _settle(
        self, claimed: ClaimedDelivery, record: DeliveryRecord, wait: timedelta | None
    ) -> None:
        for _ in range(_SETTLE_TRIES):
            try:
                settled = await self._deliveries.settle(
                    claimed, record, retry_delay=wait, retention=self._terms.retention
                )
            except LedgerError as error:
                _log.warning("outcome_unwritten", webhook_id=record.id, reason=str(error))
                await asyncio.sleep(_PAUSE.total_seconds())
            else:
                _tell(record, wait, settled=settled)
                return

    async def _look_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._look.set()

    async def _landed(self) -> None:
        if self._flying:
            _log.info("deliveries_landing", count=len(self._flying))
            await asyncio.wait(self._flying)


def judged(
    record: DeliveryRecord, outcome: Outcome, *, schedule: Sequence[timedelta], jitter: float
) -> tuple[DeliveryRecord, timedelta | None]:
    """Return the delivery after a try of that outcome, and the wait before the next, if any."""
    record = replace(
        record,
        tries=record.tries + 1,
        last_status=outcome.status,
        last_error=outcome.error[:_LONGEST_ERROR],
    )
    if not outcome.error:
        return replace(record, state=DeliveryState.DELIVERED), None
    wait = None
    if not outcome.hopeless:
        wait = retry_delay(
            record.tries, schedule=schedule, jitter=jitter, retry_after=outcome.retry_after
        )
    state = DeliveryState.DEAD if wait is None else DeliveryState.WAITING
    return replace(record, state=state), wait


def _tell(record: DeliveryRecord, wait: timedelta | None, *, settled: bool) -> None:
    told = {
        "webhook_id": record.id,
        "task_id": record.task_id,
        "tries": record.tries,
        "status": record.last_status,
    }
    if not settled:
        _log.info("delivery_lease_lost", **told)
    elif record.state is DeliveryState.DELIVERED:
        _log.info("webhook_delivered", **told)
    elif wait is None:
        _log.error("webhook_dead", reason=record.last_error, **told)
    else:
        _log.warning(
            "webhook_try_failed",
            reason=record.last_error,
            retry_seconds=round(wait.total_seconds(), 3),
            **told,
        )
