"""What a worker says of itself, for as long as it lives."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from callsheet.broker.slots import Slots
from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.codec import VERSION
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.messages import timestamp
from callsheet.ledger.registry import Registry, Wish
from callsheet.v1.operations_service_pb2 import Worker, WorkerDevice, WorkerSlots
from callsheet.worker.running import RunningAttempts

#: How often a worker is heard of; the others believe it dead after three silent times.
_PAUSE_SECONDS: Final = 5.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class WaitingCounts:
    """What became of tasks because of others that waited beside them, since the worker started."""

    batched: int
    """Tasks that were run together with others."""
    overtaken: int
    """Tasks that others were taken before."""


class Presence:
    """Tells the registry that the worker lives, and hears what operators wish of it.

    *on_wish* is called when that is another wish than before; *wished*, once set, is a reason to
    ask at once.
    """

    def __init__(
        self,
        registry: Registry,
        worker: str,
        *,
        queues: tuple[str, ...],
        device: str,
        slots: Mapping[ResourceClass, Slots],
        running: RunningAttempts,
        start_time: datetime,
        wished: asyncio.Event,
        on_wish: Callable[[Wish | None], None],
        devices: Callable[[], list[WorkerDevice]],
        counts: Callable[[], WaitingCounts],
    ) -> None:
        self._registry = registry
        self._worker = worker
        self._queues = queues
        self._device = device
        self._slots = slots
        self._running = running
        self._start_time = start_time
        self._wished = wished
        self._on_wish = on_wish
        self._devices = devices
        self._counts = counts
        self._wish: Wish | None = None
        self.draining = False
        self.paused = False

    async def tell_until_cancelled(self) -> None:
        """Tell the registry every few seconds, and when operators wish something."""
        while True:
            self._wished.clear()
            try:
                await self.tell()
            except LedgerError as error:
                _log.warning("presence_not_told", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await self._wished.wait()

    async def tell(self) -> None:
        """Tell the registry, once more after a new wish was heard."""
        wish = await self._beat()
        if wish is self._wish:
            return
        _log.info("wish_heard", wish=wish.value if wish is not None else None)
        self._wish = wish
        self._on_wish(wish)
        await self._beat()

    async def _beat(self) -> Wish | None:
        record = WorkerRecord(version=VERSION, worker=self._described())
        return await self._registry.heartbeat(self._worker, record.SerializeToString())

    async def end(self) -> None:
        """Leave the registry."""
        await self._registry.forget_worker(self._worker)

    def _described(self) -> Worker:
        counts = self._counts()
        return Worker(
            id=self._worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
            device=self._device,
            slots=[
                WorkerSlots(resource_class=kind.value, total=slots.total, busy=slots.busy)
                for kind, slots in self._slots.items()
            ],
            start_time=timestamp(self._start_time),
            draining=self.draining,
            paused=self.paused,
            devices=self._devices(),
            running_task_ids=[running.task.id for running in self._running],
            batched_tasks=counts.batched,
            overtaken_tasks=counts.overtaken,
        )
