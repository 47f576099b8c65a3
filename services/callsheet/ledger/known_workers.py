"""Who is alive to take tasks, as it was a moment ago: for whoever asks often."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from callsheet.ledger.errors import LedgerError
from callsheet.ledger.registry import Registry
from callsheet.ledger.waiting import live_workers
from callsheet.v1.operations_service_pb2 import Worker

#: A worker is heard of as often: what was read is hardly older than what it says.
GOOD_FOR: Final = timedelta(seconds=5)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class KnownWorkers:
    """The live workers, read from the registry once in a while."""

    def __init__(self, registry: Registry, *, good_for: timedelta = GOOD_FOR) -> None:
        """What was read is *good_for* that long; so is that it could not be read."""
        self._registry = registry
        self._good_for = good_for
        self._read: Sequence[Worker] | None = None
        self._read_at: float | None = None
        # One reads, and who comes meanwhile waits for it.
        self._reading = asyncio.Lock()

    async def look(self, *, afresh: bool = False) -> Sequence[Worker] | None:
        """Return the live workers, by id; None: they cannot be known now.

        *afresh* is for what must not follow from what has changed meanwhile.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._reading:
            oldest = asked_at if afresh else asked_at - self._good_for.total_seconds()
            if self._read_at is None or self._read_at < oldest:
                # Stamped before it is read: what changes while it is may be missed.
                self._read_at = loop.time()
                self._read = await self._live()
            return self._read

    async def _live(self) -> Sequence[Worker] | None:
        try:
            return await live_workers(self._registry)
        except LedgerError as error:
            _log.warning("workers_not_known", reason=str(error))
            return None
