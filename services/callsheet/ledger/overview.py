"""What operators may ask of the ledger: its queues and its workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.codec import decode_task, project_of
from callsheet.ledger.index import REUSE_ANSWERS, Keys, reuse_count
from callsheet.ledger.instants import instant
from callsheet.ledger.model import NO_TIME, Task
from callsheet.ledger.registry import Registry
from callsheet.ledger.store import Store
from callsheet.ledger.waiting import Wait, live_workers, why
from callsheet.v1.operations_service_pb2 import Worker


@dataclass(frozen=True, slots=True)
class ReuseCount:
    """How submissions of one task type that allowed reuse were answered."""

    task_type: str
    hits: int
    misses: int
    joins: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue as it is: how much waits, and who serves it."""

    name: str
    task_types: tuple[str, ...]
    ready: int
    oldest_wait: timedelta | None
    workers: int
    slots: int
    busy_slots: int
    reuse: tuple[ReuseCount, ...] = ()


class Overview:
    """Looks over the whole cell, all projects alike."""

    def __init__(
        self, store: Store, registry: Registry, keys: Keys, catalog: Mapping[str, TaskType]
    ) -> None:
        self._store = store
        self._registry = registry
        self._keys = keys
        self._catalog = catalog

    async def why(self, task: Task) -> Wait:
        """Return why a task that its principal was shown waits, and its place."""
        return await why(self._store, self._registry, self._keys, task)

    async def workers(self, principal: Principal) -> list[Worker]:
        """Return the live workers, by id; of what they run, the tasks of the key's projects."""
        principal.require(Role.OPERATE)
        workers = await live_workers(self._registry)
        ids = [task_id for worker in workers for task_id in worker.running_task_ids]
        own = await self._own(principal, ids)
        for worker in workers:
            shown = [task_id for task_id in worker.running_task_ids if task_id in own]
            worker.running_task_ids[:] = shown
        return workers

    async def queues(self, principal: Principal) -> list[QueueView]:
        """Return the queues of all task types, by name."""
        principal.require(Role.OPERATE)
        workers = await live_workers(self._registry)
        now, _ = await self._store.due(self._keys.delayed, limit=0)
        names = sorted({kind.queue for kind in self._catalog.values()})
        views = [await self._queue(name, workers, instant(now)) for name in names]
        counts = await self._store.counts(self._keys.reuse_counts)
        return [replace(view, reuse=_reuse(view.task_types, counts)) for view in views]

    async def _own(self, principal: Principal, task_ids: Sequence[str]) -> set[str]:
        found = [stored for stored in await self._store.read(task_ids) if stored is not None]
        return {stored.task_id for stored in found if project_of(stored) in principal.projects}

    async def _queue(self, name: str, workers: Sequence[Worker], now: datetime) -> QueueView:
        kinds = sorted(kind.name for kind in self._catalog.values() if kind.queue == name)
        resource = self._catalog[kinds[0]].resource_class
        serving = [worker for worker in workers if name in worker.queues and not worker.draining]
        slots = [
            slots
            for worker in serving
            for slots in worker.slots
            if slots.resource_class == resource.value
        ]
        return QueueView(
            name=name,
            task_types=tuple(kinds),
            ready=await self._store.count(self._keys.ready(name)),
            oldest_wait=await self._oldest_wait(name, now),
            workers=len(serving),
            slots=sum(each.total for each in slots),
            busy_slots=sum(each.busy for each in slots),
        )

    async def _oldest_wait(self, queue: str, now: datetime) -> timedelta | None:
        """Return how long the first of the queue has been ready."""
        first = await self._store.members(self._keys.ready(queue), limit=1)
        if not first:
            return None
        stored = (await self._store.read([first[0][0]]))[0]
        if stored is None:
            return None
        task = decode_task(stored)
        return max(NO_TIME, now - (task.ready_time or task.update_time))


def _reuse(task_types: Sequence[str], counts: Mapping[str, int]) -> tuple[ReuseCount, ...]:
    """Return the counts of those types of which there are any."""
    found = [
        ReuseCount(name, *(counts.get(reuse_count(name, what), 0) for what in REUSE_ANSWERS))
        for name in task_types
    ]
    return tuple(count for count in found if count.hits or count.misses or count.joins)
