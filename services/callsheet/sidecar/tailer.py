"""The tailer: turns facts in the log into deliveries, one tailer in a cell at a time.

Deliveries are recorded and the cursor is moved in one script, so that whatever ends the tailer, the
next one goes on exactly there.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple, cast

import structlog

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.deliveries import Deliveries, LogStep, NewDelivery
from callsheet.ledger.errors import CursorLost, LedgerError
from callsheet.ledger.index import Keys
from callsheet.ledger.log import LOG_START, Log, LogEntry
from callsheet.ledger.registry import Registry
from callsheet.ledger.store import Store
from callsheet.sidecar.pausing import set_within, unless_set
from callsheet.sidecar.targets import origin_of

#: The role that one tailer of a cell holds at a time.
ROLE: Final = "sidecar-tailer"
#: The name of the cursor behind which the log is kept.
READER: Final = "sidecar"

#: The facts after which a task changes no more.
FINAL_FACTS: Final = frozenset({"task_succeeded", "task_failed", "task_cancelled"})

#: Log entries read in one go.
_BATCH: Final = 512
#: How long a read of the log waits; less than a socket does.
_WAIT: Final = timedelta(seconds=2)
#: How long facts without deliveries may wait for the cursor to pass them: it costs an fsync.
_CURSOR_PAUSE: Final = timedelta(seconds=1)
_PAUSE: Final = timedelta(seconds=1)
_FORGET_EVERY: Final = timedelta(minutes=1)
_FORGET_LIMIT: Final = 500

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Place(NamedTuple):
    """Where the tailer is: what its durable cursor says, and how far it has really read."""

    saved: str
    read: str


class Tailer:
    """Reads the log while it holds the role; *recorded* is called when there is work."""

    def __init__(
        self,
        *,
        log: Log,
        store: Store,
        registry: Registry,
        deliveries: Deliveries,
        keys: Keys,
        holder: str,
        hold: timedelta,
        recorded: Callable[[], None],
    ) -> None:
        self._log = log
        self._store = store
        self._registry = registry
        self._deliveries = deliveries
        self._keys = keys
        self._holder = holder
        self._hold = hold
        self._recorded = recorded
        self._clock = asyncio.get_running_loop().time
        self._renew_at = self._save_at = self._forget_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Tail whenever nobody else does, until told to stop."""
        while not stop.is_set():
            try:
                if await self._take_role():
                    await self._tail(stop)
                else:
                    await set_within(stop, self._hold / 3)
            except LedgerError as error:
                _log.warning("tailing_interrupted", reason=str(error))
                await set_within(stop, _PAUSE)
        await self._give_role_up()

    async def _tail(self, stop: asyncio.Event) -> None:
        cursor = (await self._log.cursors()).get(READER, LOG_START)
        place = Place(cursor, cursor)
        _log.info("tailing_started", position=cursor)
        while not stop.is_set() and await self._still_holds():
            try:
                moved = await self._step(place, stop)
            except CursorLost:
                moved = await self._catch_up(place)
            if moved is None:
                _log.warning("tailer_fenced", position=place.saved)
                await set_within(stop, _PAUSE)
                return
            place = moved
            await self._forget_when_due()

    async def _step(self, place: Place, stop: asyncio.Event) -> Place | None:
        """Read on from the place and return the next one; None: another tailer has taken over."""
        reading = self._log.after(place.read, limit=_BATCH, timeout=_WAIT)
        entries = await unless_set(stop, reading) or []
        read = entries[-1].position if entries else place.read
        found = await self._found(entries)
        if not found and (read == place.saved or self._clock() < self._save_at):
            return Place(place.saved, read)
        if not await self._record(found, before=place.saved, after=read):
            return None
        return Place(read, read)

    async def _found(self, entries: Sequence[LogEntry]) -> list[NewDelivery]:
        """Return the deliveries that the facts ask for."""
        events = [(entry.task_id, parse_event(entry.event)) for entry in entries]
        final = [(task_id, event) for task_id, event in events if _is_final(event)]
        tasks = await self._store.read([task_id for task_id, _ in final]) if final else []
        found: list[NewDelivery] = []
        for (task_id, event), stored in zip(final, tasks, strict=True):
            if stored is None:
                # Pruned before it was told of: only a sidecar away for the whole retention is.
                _log.error("webhook_lost", task_id=task_id, sequence=event.sequence)
            else:
                found += _deliveries(task_id, event.sequence, stored.first)
        return found

    async def _record(self, found: Sequence[NewDelivery], *, before: str, after: str) -> bool:
        epoch = await self._log.epoch()
        step = LogStep(ROLE, self._holder, READER, epoch, before, after)
        recorded = await self._deliveries.record(found, step)
        if recorded is None:
            return False
        self._save_at = self._clock() + _CURSOR_PAUSE.total_seconds()
        if recorded:
            _log.debug("deliveries_recorded", count=recorded, position=after)
            self._recorded()
        return True

    async def _catch_up(self, place: Place) -> Place | None:
        """Find by the index of final tasks what the log no longer tells; return the log's end.

        What was recorded before is passed over, so that nothing is delivered anew.
        """
        end = await self._log.end()
        _log.warning("log_cursor_lost", position=place.saved, resumed=end)
        below: int | None = None
        while page := await self._store.page(self._keys.final, below=below, limit=_BATCH):
            below = page[-1][1]
            found: list[NewDelivery] = []
            for task_id, _ in page:
                found += await self._final_of(task_id)
            if not await self._still_holds() or not await self._record(
                found, before=place.saved, after=place.saved
            ):
                return None
        return Place(end, end) if await self._record((), before=place.saved, after=end) else None

    async def _final_of(self, task_id: str) -> list[NewDelivery]:
        stored = (await self._store.read([task_id]))[0]
        if stored is None or not parse_event(stored.first).task_submitted.callback.url:
            return []
        facts = await self._store.facts(task_id, after=0, limit=stored.sequence)
        events = (parse_event(fact) for fact in facts)
        return [
            delivery
            for event in events
            if _is_final(event)
            for delivery in _deliveries(task_id, event.sequence, stored.first)
        ]

    async def _forget_when_due(self) -> None:
        if self._clock() < self._forget_at:
            return
        self._forget_at = self._clock() + _FORGET_EVERY.total_seconds()
        if forgotten := await self._deliveries.forget(limit=_FORGET_LIMIT):
            _log.info("deliveries_forgotten", tasks=forgotten)

    async def _take_role(self) -> bool:
        held = await self._registry.hold(ROLE, self._holder, duration=self._hold)
        self._renew_at = self._clock() + self._hold.total_seconds() / 3
        return held

    async def _still_holds(self) -> bool:
        return self._clock() < self._renew_at or await self._take_role()

    async def _give_role_up(self) -> None:
        try:
            await self._registry.release(ROLE, self._holder)
        except LedgerError as error:
            _log.info("tailer_role_left_to_expire", reason=str(error))


def _is_final(event: EventRecord) -> bool:
    return event.WhichOneof("fact") in FINAL_FACTS


def _deliveries(task_id: str, sequence: int, first: bytes) -> Iterator[NewDelivery]:
    """Yield what the final fact means for each endpoint of the task: today it has one at most."""
    url = parse_event(first).task_submitted.callback.url
    if url:
        yield NewDelivery(task_id=task_id, sequence=sequence, url=url, origin=origin_of(url))
