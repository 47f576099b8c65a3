"""Why a task waits, and who is alive to take it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
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
        workers = await live_workers(registry)
        served = any(_serves(worker, task.submission.queue) for worker in workers)
        return Wait(WaitReason.BUSY if served else WaitReason.NO_WORKER, position)
    if task.ready_time is None:
        return Wait()
    return Wait(WaitReason.BACKOFF if task.attempt else WaitReason.SCHEDULED)


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


def _serves(worker: Worker, queue: str) -> bool:
    return queue in worker.queues and not worker.draining
