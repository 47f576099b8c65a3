"""Records where an attempt's work can be gone on from, as its runner saves it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LeaseLost, LedgerError
from callsheet.ledger.messages import checkpoint_from_proto
from callsheet.v1 import task_pb2
from callsheet.worker.running import Running

_LAST_MOMENT: Final = timedelta(seconds=2)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class CheckpointRecorder:
    """Records the newest checkpoint of one attempt; one that a newer one overtakes never is.

    *moved_on* is told when the task was changed by somebody else. Lives on the worker's loop.
    """

    def __init__(
        self, attempts: Attempts, running: Running, *, moved_on: Callable[[Running], None]
    ) -> None:
        self._attempts = attempts
        self._running = running
        self._moved_on = moved_on
        self._newest: task_pb2.Checkpoint | None = None
        self._recording: asyncio.Task[None] | None = None

    def saved(self, checkpoint: task_pb2.Checkpoint) -> None:
        """Take a checkpoint that stands in the store, newer than any before."""
        self._newest = checkpoint
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record())

    async def close(self, *, drop: bool) -> None:
        """Record nothing any more. *drop*: of an attempt that is done, not even what was taken.

        Of any other, the last checkpoint is what the next one goes on from: it gets a moment.
        """
        recording = self._recording
        if recording is None:
            return
        if drop:
            self._newest = None
        else:
            await asyncio.wait({recording}, timeout=_LAST_MOMENT.total_seconds())
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)

    async def _record(self) -> None:
        running = self._running
        while self._newest is not None:
            checkpoint, self._newest = self._newest, None
            try:
                task = await self._attempts.save_checkpoint(
                    running.task,
                    attempt=running.attempt,
                    checkpoint=checkpoint_from_proto(checkpoint),
                )
            except LeaseLost:
                self._moved_on(running)
            except LedgerError as error:
                # Another attempt then goes on from an older one, or starts anew.
                _log.warning("checkpoint_not_recorded", task_id=running.task.id, reason=str(error))
            else:
                if task.sequence > running.task.sequence:
                    running.task = task
