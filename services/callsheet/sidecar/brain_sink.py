"""The brain sink: brings every fact to the brain's graph, one sink in a cell at a time.

The cursor moves when the brain has the facts before it: whatever ends the sink or the brain, the
next one goes on there, and what is told twice has the same key.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, cast

import structlog

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainError, BrainUnavailable
from callsheet.ledger.errors import CursorLost, LedgerError
from callsheet.ledger.graph_progress import ROLE, FactKey, Gap, GraphProgress, Progress
from callsheet.ledger.log import LOG_START, Log, LogEntry
from callsheet.ledger.position import Position
from callsheet.ledger.registry import Registry
from callsheet.sidecar.brain_source import Fact, FactSource
from callsheet.sidecar.brain_teller import Teller
from callsheet.sidecar.pausing import set_within, unless_set

#: Facts told in one go, and their bytes in the log. A batch that is lost is tried in halves.
BATCH: Final = 250
_BATCH_BYTES: Final = 2 * 2**20
#: Batches begin no closer: few calls where little happens, and a bound on what a backlog takes.
_PACE: Final = timedelta(milliseconds=50)
#: How long a read of the log waits; less than a socket does.
_WAIT: Final = timedelta(seconds=2)
#: How long told facts may wait for the cursor to pass them: it costs an fsync.
_CURSOR_PAUSE: Final = timedelta(seconds=0.5)
#: Waits after a refusal or a loss: doubled each time.
_FIRST_PAUSE: Final = timedelta(milliseconds=250)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_LOOK: Final = timedelta(seconds=5)
#: What clocks and the order of writes may differ by where a gap begins.
_MARGIN: Final = timedelta(minutes=1)
#: Dead facts that are tried again at each connection, and how many may be refused before it stops.
_DEAD_TRIED: Final = 500
_DEAD_REFUSED: Final = 10

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class _Place:
    """What is remembered durably, and how far the brain has really been told."""

    saved: Progress
    told: str


class _Fenced(Exception):
    """Another sink has taken over, or the ledger has another epoch."""


class _Undecided(Exception):
    """The brain refuses facts that have not had all their chances yet."""


class BrainSink:
    """Tells while the brain is connected and the role is held: as *holder*, *hold* at a time.

    *now* is the clock.
    """

    def __init__(
        self,
        *,
        brain: Brain,
        log: Log,
        source: FactSource,
        progress: GraphProgress,
        registry: Registry,
        holder: str,
        hold: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._brain = brain
        self._log = log
        self._source = source
        self._progress = progress
        self._registry = registry
        self._holder = holder
        self._hold = hold
        self._teller = Teller(brain, now=now)
        self._clock = asyncio.get_running_loop().time
        self._save_at = self._next_at = 0.0
        self._holds = False
        self._batch = BATCH
        self._troubles = 0
        self._dead_tries: Counter[FactKey] = Counter()
        self._killers: set[FactKey] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Tell whenever the brain is there and nobody else does, until told to stop."""
        connection = self._brain.connection
        while not stop.is_set():
            try:
                if not connection.is_connected:
                    await unless_set(stop, connection.until_connected(timeout=_LOOK))
                elif await self._take_role():
                    await self._tell_on(stop)
                else:
                    await set_within(stop, self._hold / 3)
            except CursorLost:
                continue  # opening again finds another way
            except (LedgerError, _Fenced) as error:
                _log.warning("telling_interrupted", reason=str(error) or "another one has it")
                await self._pause(stop)
            except BrainError as error:
                _log.info("telling_interrupted", reason=str(error))
                await self._give_role_up()
                await self._pause(stop)
        await self._give_role_up()

    async def _tell_on(self, stop: asyncio.Event) -> None:
        """Tell until told to stop, the role is lost, or the brain was away meanwhile."""
        connection = self._brain.connection
        known = connection.count
        keeping = asyncio.create_task(self._keep_role())
        self._source.forget_healed()
        try:
            place = await self._open()
            _log.info("telling_started", position=place.told, gap=place.saved.gap is not None)
            await self._tell_dead_again()
            while not stop.is_set() and self._holds and connection.count == known:
                try:
                    if place.saved.gap is not None:
                        closed = await self._close_gap(place, place.saved.gap, stop)
                        if closed is None:
                            # What follows is not held up, and shows whether the brain is well.
                            await self._pause(stop)
                        place = closed or place
                    place = await self._step(place, stop)
                except _Undecided:
                    await self._pause(stop)
            await self._save(place, place.saved)
        finally:
            self._teller.begin_anew()
            keeping.cancel()
            await asyncio.wait({keeping})

    async def _open(self) -> _Place:
        """Return where to go on; a gap is noted where the log no longer tells what follows."""
        saved, epoch = await self._progress.read(), await self._log.epoch()
        if saved.epoch not in {"", epoch}:
            _log.warning("graph_epoch_changed", before=saved.epoch, after=epoch)
        position = saved.position or LOG_START
        try:
            await self._log.after(position, limit=1, timeout=timedelta(0))
            opened = saved._replace(position=position, epoch=epoch)
        except CursorLost:
            opened = await self._with_gap(saved, epoch)
        if opened != saved:
            await self._remember(saved, opened)
        return _Place(opened, opened.position)

    async def _with_gap(self, saved: Progress, epoch: str) -> Progress:
        start, end = await self._log.start(), await self._log.end()
        reached = _microseconds(saved.position or LOG_START)
        # Trimmed past it, or ending before it: the ledger lost its tail.
        resumed = start if reached < _microseconds(end) else end
        since = min(reached, _microseconds(resumed)) - _MARGIN // timedelta(microseconds=1)
        if saved.gap is not None:
            since = min(since, saved.gap.since)
        _log.warning("graph_cursor_lost", position=saved.position, resumed=resumed)
        heal = _microseconds(resumed) + 1_000
        return Progress(resumed, epoch, Gap(max(0, since), None), heal)

    async def _step(self, place: _Place, stop: asyncio.Event) -> _Place:
        """Tell what follows the place; return the next place, or the same when it must wait."""
        await set_within(stop, timedelta(seconds=self._next_at - self._clock()))
        self._next_at = self._clock() + _PACE.total_seconds()
        # Behind facts that wait, what follows is told too: it shows whether the brain is well.
        reach = 2 if self._teller.waits else 1
        reading = self._log.after(place.told, limit=reach * self._batch, timeout=_wait(place))
        entries = _few(await unless_set(stop, reading) or [], reach * _BATCH_BYTES)
        if entries:
            facts = await self._source.of_entries(
                entries,
                epoch=place.saved.epoch,
                heal=place.saved.heal,
                alone=self._teller.takes_single_facts,
            )
            if not await unless_set(stop, self._tell(facts, place)):
                return place
            self._teller.move_on(facts)
            self._source.note_told()
            place = replace(place, told=entries[-1].position)
            await unless_set(stop, self._teller.cache(facts))
        if place.told == place.saved.position or (entries and self._clock() < self._save_at):
            return place
        return await self._save(place, place.saved)

    async def _close_gap(self, place: _Place, gap: Gap, stop: asyncio.Event) -> _Place | None:
        """Tell of some tasks that ended in the gap, and remember that; None: they must wait."""
        facts, left = await self._source.of_gap(
            gap, epoch=place.saved.epoch, alone=self._teller.takes_single_facts
        )
        for start in range(0, len(facts), self._batch):
            some = facts[start : start + self._batch]
            try:
                if not await unless_set(stop, self._tell(some, place)):
                    return place
            except _Undecided:
                return None
        if left is None:
            _log.info("graph_gap_closed", since=gap.since)
        place = await self._save(place, place.saved._replace(gap=left))
        self._teller.move_on(facts)
        return place

    async def _tell(self, facts: Sequence[Fact], place: _Place) -> bool:
        """Return True when all facts are told, or dead."""
        try:
            verdict = await self._teller.tell(facts)
        except BrainUnavailable as error:
            if error.was_sent:
                self._batch = max(1, min(self._batch, len(facts)) // 2)
            raise
        if verdict.dead:
            await self._remember(place.saved, place.saved, dead=verdict.dead)
        if verdict.has_accepted:
            self._troubles = 0
        if not verdict.is_done:
            raise _Undecided
        self._batch = min(BATCH, 2 * self._batch)
        self._troubles = 0
        return True

    async def _tell_dead_again(self) -> None:
        """Try what the brain refused before it was connected: it may have been mended since.

        Those first that were tried least often, and none again at which the brain was lost.
        """
        refused, gone = 0, list[FactKey]()
        dead = await self._progress.dead(limit=_DEAD_TRIED)
        keys = {each.key for each in dead} - self._killers
        for key in sorted(keys, key=lambda each: (self._dead_tries[each], each)):
            self._dead_tries[key] += 1
            if await self._is_taken_now(key):
                gone.append(key)
            elif (refused := refused + 1) >= _DEAD_REFUSED:
                break
        await self._progress.forget_dead(gone)
        for key in gone:
            del self._dead_tries[key]
        if dead:
            left = await self._progress.count_dead()
            _log.warning("graph_facts_dead", told_now=len(gone), left=left)

    async def _is_taken_now(self, key: FactKey) -> bool:
        fact = await self._source.of_key(key, alone=self._teller.takes_single_facts)
        if fact is None:
            return True  # its task is no longer kept
        try:
            return await self._teller.tell_again(fact)
        except BrainUnavailable as error:
            if error.was_sent:
                self._killers.add(key)
            raise

    async def _save(self, place: _Place, wanted: Progress) -> _Place:
        wanted = wanted._replace(position=place.told)
        if wanted != place.saved:
            await self._remember(place.saved, wanted)
        return _Place(wanted, place.told)

    async def _remember(
        self, before: Progress, after: Progress, *, dead: Sequence[tuple[FactKey, str]] = ()
    ) -> None:
        moved = await self._progress.advance(before, after, holder=self._holder, dead=dead)
        if not moved:
            raise _Fenced
        self._save_at = self._clock() + _CURSOR_PAUSE.total_seconds()

    async def _pause(self, stop: asyncio.Event) -> None:
        pause = min(_FIRST_PAUSE * 2 ** min(self._troubles, 16), _LONGEST_PAUSE)
        self._troubles += 1
        await set_within(stop, pause)

    async def _take_role(self) -> bool:
        self._holds = await self._registry.hold(ROLE, self._holder, duration=self._hold)
        return self._holds

    async def _keep_role(self) -> None:
        """Renew the role beside all else: a write may take longer than the role lasts."""
        while self._holds:
            await asyncio.sleep(self._hold.total_seconds() / 3)
            try:
                await self._take_role()
            except LedgerError as error:
                _log.info("teller_role_not_renewed", reason=str(error))

    async def _give_role_up(self) -> None:
        try:
            await self._registry.release(ROLE, self._holder)
        except LedgerError as error:
            _log.info("teller_role_left_to_expire", reason=str(error))


def _wait(place: _Place) -> timedelta:
    """Return how long to wait for facts before there is something else to do."""
    if place.saved.gap is not None:
        return timedelta(0)
    return _WAIT if place.told == place.saved.position else _CURSOR_PAUSE


def _few(entries: Sequence[LogEntry], most_bytes: int) -> list[LogEntry]:
    """Return the first entries, as many as a message may carry; one at least."""
    size, few = 0, list[LogEntry]()
    for entry in entries:
        size += len(entry.event)
        if few and size > most_bytes:
            break
        few.append(entry)
    return few


def _microseconds(position: str) -> int:
    return 1_000 * Position.parse(position).time
