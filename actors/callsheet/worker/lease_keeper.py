"""Keeps the leases of running attempts, and notices when a task was changed by somebody else."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LedgerError, LedgerUnavailable, TaskNotFound
from callsheet.ledger.index import WORKER_WORD
from callsheet.ledger.model import TaskState
from callsheet.ledger.store import Store
from callsheet.worker.running import Running, RunningAttempts, StopCause

#: Renewals per lease: two may fail.
RENEWALS_A_LEASE: Final = 3
_LISTEN: Final = timedelta(seconds=2)
_AFTER_ERROR: Final = timedelta(seconds=1)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class LeaseKeeper:
    """Renews, listens on the control list, and stops attempts that must stop.

    *wished* is set when operators wish something of the worker itself.
    """

    def __init__(
        self,
        attempts: Attempts,
        store: Store,
        running: RunningAttempts,
        *,
        wished: asyncio.Event | None = None,
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._running = running
        self._wished = wished or asyncio.Event()
        self._looks: set[asyncio.Task[None]] = set()

    async def renew_until_cancelled(self) -> None:
        """Renew every lease, three times in its length."""
        pause = self._attempts.lease / RENEWALS_A_LEASE
        while True:
            try:
                await self.renew()
            except LedgerError as error:
                # Attempts go on: a lease that ran out meanwhile may still be there to renew.
                _log.warning("renewal_failed", reason=str(error))
            await asyncio.sleep(pause.total_seconds())

    async def renew(self) -> None:
        """Renew every lease once."""
        all_running = list(self._running)
        if not all_running:
            return
        leases = [(running.task.id, running.attempt) for running in all_running]
        sequences = await self._attempts.renew(leases)
        for running, sequence in zip(all_running, sequences, strict=True):
            if sequence == 0:
                self._lost(running)
            elif sequence > running.task.sequence:
                await self.look(running)

    async def listen_until_cancelled(self) -> None:
        """Look again at each attempt the control list names."""
        while True:
            try:
                word = await self._store.await_control(self._attempts.worker, timeout=_LISTEN)
            except LedgerUnavailable as error:
                _log.warning("control_list_unreachable", reason=error.reason)
                await asyncio.sleep(_AFTER_ERROR.total_seconds())
                continue
            if word == WORKER_WORD:
                self._wished.set()
            running = None if word is None else self._running.find(*word)
            if running is not None:
                self.look_soon(running)

    def look_soon(self, running: Running) -> None:
        """Look at the attempt's task again, without waiting for it."""
        look = asyncio.create_task(self.look(running))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def look(self, running: Running) -> None:
        """Read the attempt's task again, and stop the attempt if it must stop."""
        try:
            task = await self._attempts.read(running.task.id)
        except TaskNotFound:
            self._lost(running)
            return
        except LedgerError as error:
            # The next renewal will tell again.
            _log.warning("look_failed", task_id=running.task.id, reason=str(error))
            return
        if task.state is not TaskState.RUNNING or task.attempt != running.attempt:
            self._lost(running)
            return
        running.task = task
        if task.cancel_requested:
            running.stop(StopCause.CANCELLED)

    def _lost(self, running: Running) -> None:
        # Of an outcome on its way, the ledger itself will say whether it comes too late.
        if not running.concluding:
            running.stop(StopCause.LEASE_LOST)
