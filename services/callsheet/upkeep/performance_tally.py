"""Counts how tasks fare, from the log, and how queues look, from time to time."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.catalog import TaskType
from callsheet.ledger.errors import CursorLost
from callsheet.ledger.index import Keys
from callsheet.ledger.log import Log, LogEntry
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.performance import Counters, Tally
from callsheet.ledger.position import Position
from callsheet.ledger.registry import Registry
from callsheet.ledger.sightings import Seen, Sightings
from callsheet.ledger.store import Store
from callsheet.ledger.waiting import live_workers, slots_of

PERIOD: Final = timedelta(seconds=1)
#: How often queues are looked at.
LOOK: Final = timedelta(seconds=5)
#: Facts counted at once.
FACTS: Final = 512

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class PerformanceTally:
    """Reads the log behind everybody else, and counts each fact once, whatever is restarted.

    The log is not kept for it: what was trimmed before it was counted is told, and left out.
    """

    name = "performance_tally"

    def __init__(
        self,
        store: Store,
        log: Log,
        registry: Registry,
        counters: Counters,
        *,
        keys: Keys,
        catalog: Mapping[str, TaskType],
    ) -> None:
        self._store = store
        self._log = log
        self._registry = registry
        self._keys = keys
        self._counters = counters
        self._queues = {kind.queue: kind.resource_class for kind in catalog.values()}
        self._sightings = Sightings(store)
        self._look_at = float("-inf")

    async def run_once(self) -> timedelta:
        """Count what the log told since, at most 512 facts; look at the queues when it is time."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            self._look_at = now + LOOK.total_seconds()
            await self._look()
        # Asked each time: somebody else may have had the role in between.
        counted = await self._counters.counted()
        entries = await self._entries(counted)
        if not entries:
            return PERIOD
        tally = Tally()
        for seen in await self._sightings.look(entries):
            if isinstance(seen, Seen):
                tally.count(seen)
        await self._counters.add(tally, after=counted, up_to=entries[-1].position)
        return NO_TIME if len(entries) == FACTS else PERIOD

    async def _entries(self, counted: str) -> list[LogEntry]:
        place = counted or await self._log.start()
        try:
            return await self._log.after(place, limit=FACTS, timeout=NO_TIME)
        except CursorLost:
            return await self._after_loss(counted)

    async def _after_loss(self, counted: str) -> list[LogEntry]:
        """Go on where the log begins; or, when its tail was lost and counted before, at its end."""
        start, end = await self._log.start(), await self._log.end()
        try:
            is_ahead = Position.parse(counted) > Position.parse(end)
        except ValueError:
            is_ahead = False
        place = end if is_ahead else start
        _log.warning("performance_facts_lost", position=counted, resumed_at=place)
        await self._counters.add(Tally(), after=counted, up_to=place)
        return []

    async def _look(self) -> None:
        workers = await live_workers(self._registry)
        time, _ = await self._store.due(self._keys.delayed, limit=0)
        tally = Tally()
        for queue, resource in self._queues.items():
            ready = await self._store.count(self._keys.ready(queue))
            _, slots, busy = slots_of(workers, queue, resource)
            tally.look(time, queue, ready=ready, slots=slots, busy=busy)
        await self._counters.look(tally)
