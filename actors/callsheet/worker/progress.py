"""Tells of an attempt's progress: live five times a second at most, kept once a second at most."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LeaseLost, LedgerError
from callsheet.ledger.messages import progress_from_proto
from callsheet.ledger.model import Progress
from callsheet.v1 import task_pb2
from callsheet.worker.running import Running

BETWEEN_SIGNALS: Final = timedelta(milliseconds=200)
#: Signals between two that are kept.
SIGNALS_A_KEEP: Final = 5

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ProgressReporter:
    """Sends the newest progress of one attempt; what comes faster than that is never sent.

    *moved_on* is told when the task was changed by somebody else. Lives on the worker's loop.
    """

    def __init__(
        self,
        attempts: Attempts,
        running: Running,
        *,
        now: Callable[[], datetime],
        moved_on: Callable[[Running], None],
    ) -> None:
        self._attempts = attempts
        self._running = running
        self._now = now
        self._moved_on = moved_on
        self._unsent: Progress | None = None
        self._sender: asyncio.Task[None] | None = None
        self._sent = 0
        #: The newest progress reported.
        self.newest: Progress | None = None

    def report(self, progress: task_pb2.Progress) -> None:
        """Take the attempt's progress, newer than any before."""
        self.newest = self._unsent = progress_from_proto(progress, update_time=self._now())
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Send what is newest; nothing is sent after this."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        if self._unsent is not None:
            await self._signal(self._unsent)

    async def _send(self) -> None:
        while self._unsent is not None:
            progress, self._unsent = self._unsent, None
            await self._signal(progress)
            await asyncio.sleep(BETWEEN_SIGNALS.total_seconds())

    async def _signal(self, progress: Progress) -> None:
        running = self._running
        keep = self._sent % SIGNALS_A_KEEP == 0
        self._sent += 1
        try:
            await self._attempts.announce(running.task, attempt=running.attempt, progress=progress)
            if keep:
                await self._attempts.keep_progress(
                    running.task, attempt=running.attempt, progress=progress
                )
        except LeaseLost:
            self._moved_on(running)
        except LedgerError as error:
            # Progress is a signal: it may be missed.
            _log.warning("progress_not_told", task_id=running.task.id, reason=str(error))
