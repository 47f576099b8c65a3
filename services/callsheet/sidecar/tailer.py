"""The tailer: turns facts in the log into deliveries, one tailer in a cell at a time.

Deliveries are recorded and the cursor is moved in one script, so that whatever ends the tailer, the
next one goes on exactly there.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
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
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.pausing import set_within, unless_set
from callsheet.sidecar.progress import RunningProgress
from callsheet.sidecar.wishes import ASKED_EVENTS, FINAL_EVENTS, Wishes, wish_of

#: The role that one tailer of a cell holds at a time.
ROLE: Final = "sidecar-tailer"
#: The name of the cursor behind which the log is kept.
READER: Final = "sidecar"

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
    """Reads the log while it holds the role; *recorded* is told the lines in which there is work.

    *epoch* of the ledger is read once for each time the role is taken: a step of another one is
    refused, and the next time finds it.
    """

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
        media: MediaGate,
        recorded: Callable[[Iterable[str]], None],
    ) -> None:
        self._log = log
        self._store = store
        self._registry = registry
        self._deliveries = deliveries
        self._keys = keys
        self._holder = holder
        self._hold = hold
        self._media = media
        self._recorded = recorded
        self._clock = asyncio.get_running_loop().time
        self._wishes = Wishes(store)
        self._progress = RunningProgress(store, deliveries, keys, clock=self._clock)
        self._epoch = ""
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
        self._epoch = await self._log.epoch()
        cursor = (await self._log.cursors()).get(READER, LOG_START)
        place = Place(cursor, cursor)
        _log.info("tailing_started", position=cursor)
        await self._progress.begin(self._wishes)
        self._media.begin()
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
        # Before the log: then what progress follows on is read from it.
        progress = await self._progress.newest()
        released = await self._media.released(self._wishes)
        wait = timedelta(0) if progress or released else self._patience()
        reading = self._log.after(place.read, limit=_BATCH, timeout=wait)
        entries = await unless_set(stop, reading) or []
        read = entries[-1].position if entries else place.read
        # What the log tells of counts, also where it came in the last moment.
        found = await self._found(entries) + released
        if len(entries) < _BATCH:
            found += [each for each in progress if self._progress.told(each)]
        if not found and (read == place.saved or self._clock() < self._save_at):
            return Place(place.saved, read)
        if not await self._record(found, before=place.saved, after=read):
            return None
        return Place(read, read)

    def _patience(self) -> timedelta:
        """Return how long the log may have nothing new before there is something else to do."""
        progress, media = self._progress.rest, self._media.rest
        waits = [_WAIT] if progress is None else [_WAIT, timedelta(seconds=progress)]
        return min(waits if media is None else [*waits, media])

    async def _found(self, entries: Sequence[LogEntry]) -> list[NewDelivery]:
        """Return the deliveries that the facts ask for."""
        facts = [(entry.task_id, parse_event(entry.event)) for entry in entries]
        for task_id, event in facts:
            self._wishes.note(task_id, event)
        events = [(task_id, event) for task_id, event in facts if _is_told(event)]
        await self._wishes.learn(task_id for task_id, _ in events)
        found: list[NewDelivery] = []
        for task_id, event in events:
            new = self._delivery(task_id, event)
            if new is not None:
                found.append(new)
        found = await self._media.sift(facts, found, self._wishes)
        self._wishes.trim()
        return found

    def _delivery(self, task_id: str, event: EventRecord) -> NewDelivery | None:
        wish = self._wishes.of(task_id)
        is_final = _is_final(event)
        if wish is None or event.time < wish.create_time:
            if is_final and (wish is not None or not self._wishes.knows(task_id)):
                # Pruned before it was told of: only a sidecar away for the whole retention is.
                _log.error("webhook_lost", task_id=task_id, sequence=event.sequence)
            return None
        if wish.wants_progress:
            self._progress.note(task_id, event, wish)
        return wish.delivery(task_id, event)

    async def _record(self, found: Sequence[NewDelivery], *, before: str, after: str) -> bool:
        step = LogStep(ROLE, self._holder, READER, self._epoch, before, after)
        recorded = await self._deliveries.record(found, step)
        if recorded is None:
            return False
        self._save_at = self._clock() + _CURSOR_PAUSE.total_seconds()
        await self._media.recorded(found)
        if recorded:
            _log.debug("deliveries_recorded", count=recorded, position=after)
            self._recorded(dict.fromkeys(each.line for each in found))
        return True

    async def _catch_up(self, place: Place) -> Place | None:
        """Find by the index of final tasks what the log no longer tells; return the log's end.

        What was recorded before is passed over, so that nothing is delivered anew. What was told
        besides the ends of tasks is not told any more.
        """
        end = await self._log.end()
        _log.warning("log_cursor_lost", position=place.saved, resumed=end)
        below: int | None = None
        while page := await self._store.page(self._keys.final, below=below, limit=_BATCH):
            below = page[-1][1]
            facts: list[tuple[str, EventRecord]] = []
            found: list[NewDelivery] = []
            for task_id, _ in page:
                final, deliveries = await self._final_of(task_id)
                facts += final
                found += deliveries
            found = await self._media.sift(facts, found, self._wishes)
            if not await self._still_holds() or not await self._record(
                found, before=place.saved, after=place.saved
            ):
                return None
        return Place(end, end) if await self._record((), before=place.saved, after=end) else None

    async def _final_of(
        self, task_id: str
    ) -> tuple[list[tuple[str, EventRecord]], list[NewDelivery]]:
        """Return the facts of a final task, and the delivery of its end if one is wanted."""
        stored = (await self._store.read([task_id]))[0]
        if stored is None:
            return [], []
        contents = await self._store.facts(task_id, after=0, limit=stored.sequence)
        facts = [(task_id, parse_event(content)) for content in contents]
        wish = wish_of(parse_event(stored.first))
        if wish is None:
            return facts, []
        deliveries = (wish.delivery(task_id, event) for _, event in facts if _is_final(event))
        return facts, [delivery for delivery in deliveries if delivery is not None]

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
    return event.WhichOneof("fact") in FINAL_EVENTS


def _is_told(event: EventRecord) -> bool:
    fact = event.WhichOneof("fact")
    return fact in FINAL_EVENTS or fact in ASKED_EVENTS
