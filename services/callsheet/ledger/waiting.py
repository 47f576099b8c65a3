"""Why a task waits, and who is alive to take it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.codec import VERSION
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.index import Keys
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.registry import Registry
from callsheet.ledger.store import Store
from callsheet.ledger.unreadable import loudly
from callsheet.v1.operations_service_pb2 import Worker

#: A worker that was not heard of for this long counts as gone: a lease of the usual length.
SEEN_WITHIN: Final = timedelta(seconds=15)


class WaitReason(Enum):
    """Why a pending task waits."""

    NO_WORKER = "NO_WORKER"
    BUSY = "BUSY"
    BACKOFF = "BACKOFF"
    SCHEDULED = "SCHEDULED"
    PAUSED = "PAUSED"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task waits, and how many of its queue stand before it; None: it does not."""

    reason: WaitReason | None = None
    position: int | None = None


async def why(store: Store, registry: Registry, keys: Keys, task: Task) -> Wait:
    """Return why the task waits. Empty for one that does not, or was just taken."""
    if task.state is not TaskState.PENDING:
        return Wait()
    position = await store.rank(keys.ready(task.submission.queue), task.id)
    if position is not None:
        return Wait(await _in_line(store, registry, keys, task.submission.queue), position)
    if task.ready_time is None:
        return Wait()
    return Wait(WaitReason.BACKOFF if task.attempt else WaitReason.SCHEDULED)


async def _in_line(store: Store, registry: Registry, keys: Keys, queue: str) -> WaitReason:
    """Return why a task stands in its queue."""
    if queue in await store.counts(keys.paused):
        return WaitReason.PAUSED
    serving = [worker for worker in await live_workers(registry) if serves(worker, queue)]
    if not serving:
        return WaitReason.NO_WORKER
    return WaitReason.PAUSED if all(worker.paused for worker in serving) else WaitReason.BUSY


async def live_workers(registry: Registry) -> list[Worker]:
    """Return the workers heard of lately, by id. Raises UnknownVersion."""
    workers: list[Worker] = []
    for content, seen in await registry.workers(seen_within=SEEN_WITHIN):
        worker = parse_worker(content)
        worker.seen_time.FromMicroseconds(seen)
        workers.append(worker)
    return sorted(workers, key=lambda worker: worker.id)


@loudly("worker")
def parse_worker(content: bytes) -> Worker:
    """Return what a worker says of itself. Raises UnknownVersion."""
    record = WorkerRecord.FromString(content)
    if record.version != VERSION:
        raise UnknownVersion("worker", record.version)
    return record.worker


def takes_from(worker: Worker, queue: str) -> bool:
    """Whether the worker claims tasks of the queue now."""
    return serves(worker, queue) and not worker.paused


def serves(worker: Worker, queue: str) -> bool:
    """Whether the worker claims tasks of the queue, now or once it is not paused any more."""
    return queue in worker.queues and not worker.draining


def device_memory(worker: Worker) -> int | None:
    """Return the bytes of memory of the worker's device. None: it has none, or is not told."""
    told = (each.memory_total_bytes for each in worker.devices if each.name == worker.device)
    return next(told, 0) or None


def slots_of(
    workers: Sequence[Worker], queue: str, resource: ResourceClass
) -> tuple[int, int, int]:
    """Return how many workers take from the queue, how many slots they have, and how many busy."""
    serving = [worker for worker in workers if takes_from(worker, queue)]
    slots = [
        slots
        for worker in serving
        for slots in worker.slots
        if slots.resource_class == resource.value
    ]
    return len(serving), sum(each.total for each in slots), sum(each.busy for each in slots)
