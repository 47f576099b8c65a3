"""What a worker says of itself, for as long as it lives."""

import asyncio
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog

from callsheet.broker.slots import Slots
from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.codec import VERSION
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.messages import timestamp
from callsheet.ledger.registry import Registry
from callsheet.v1.operations_service_pb2 import Worker, WorkerSlots
from callsheet.worker.running import RunningAttempts

#: How often a worker is heard of; the others believe it dead after three silent times.
_PAUSE_SECONDS: Final = 5.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Presence:
    """Tells the registry that the worker lives."""

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
    ) -> None:
        self._registry = registry
        self._worker = worker
        self._queues = queues
        self._device = device
        self._slots = slots
        self._running = running
        self._start_time = start_time
        self.draining = False

    async def tell_until_cancelled(self) -> None:
        """Tell the registry every few seconds."""
        while True:
            try:
                await self.tell()
            except LedgerError as error:
                _log.warning("presence_not_told", reason=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def tell(self) -> None:
        """Tell the registry once."""
        record = WorkerRecord(version=VERSION, worker=self._described())
        await self._registry.heartbeat(self._worker, record.SerializeToString())

    async def end(self) -> None:
        """Leave the registry."""
        await self._registry.forget_worker(self._worker)

    def _described(self) -> Worker:
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
            running_task_ids=[running.task.id for running in self._running],
        )
