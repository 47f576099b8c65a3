"""What operators may ask of the ledger, and wish of it: its queues and its workers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.codec import decode_task, project_of
from callsheet.ledger.errors import QueueNotFound, WorkerNotFound
from callsheet.ledger.index import REUSE_ANSWERS, Keys, reuse_count
from callsheet.ledger.instants import instant
from callsheet.ledger.model import NO_TIME, Task
from callsheet.ledger.registry import Registry, Wish
from callsheet.ledger.store import Store
from callsheet.ledger.waiting import Wait, live_workers, slots_of, why
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
    #: When operators paused it; None: it is not paused.
    pause_time: datetime | None = None


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
        paused = await self._store.counts(self._keys.paused)
        return [
            replace(
                view,
                reuse=_reuse(view.task_types, counts),
                pause_time=instant(paused[view.name]) if view.name in paused else None,
            )
            for view in views
        ]

    async def pause_queue(self, principal: Principal, queue: str) -> QueueView:
        """Let nobody claim tasks of a queue; return it as it is then. Raises QueueNotFound."""
        return await self._changed(principal, queue, self._store.pause)

    async def resume_queue(self, principal: Principal, queue: str) -> QueueView:
        """Let tasks of a queue be claimed again; return it as it is then. Raises QueueNotFound."""
        return await self._changed(principal, queue, self._store.resume)

    async def wish(self, principal: Principal, worker_id: str, wish: Wish | None) -> Worker:
        """Tell a worker what operators wish of it; None: nothing any more. Return it as last heard.

        Raises WorkerNotFound.
        """
        principal.require(Role.OPERATE)
        workers = await self.workers(principal)
        found = next((worker for worker in workers if worker.id == worker_id), None)
        if found is None or not await self._registry.wish(worker_id, wish):
            raise WorkerNotFound(worker_id)
        return found

    async def _changed(
        self, principal: Principal, queue: str, change: Callable[[str], Awaitable[None]]
    ) -> QueueView:
        principal.require(Role.OPERATE)
        if all(kind.queue != queue for kind in self._catalog.values()):
            raise QueueNotFound(queue)
        await change(queue)
        return next(view for view in await self.queues(principal) if view.name == queue)

    async def _own(self, principal: Principal, task_ids: Sequence[str]) -> set[str]:
        found = [stored for stored in await self._store.read(task_ids) if stored is not None]
        return {stored.task_id for stored in found if project_of(stored) in principal.projects}

    async def _queue(self, name: str, workers: Sequence[Worker], now: datetime) -> QueueView:
        kinds = sorted(kind.name for kind in self._catalog.values() if kind.queue == name)
        resource = self._catalog[kinds[0]].resource_class
        serving, slots, busy = slots_of(workers, name, resource)
        return QueueView(
            name=name,
            task_types=tuple(kinds),
            ready=await self._store.count(self._keys.ready(name)),
            oldest_wait=await self._oldest_wait(name, now),
            workers=serving,
            slots=slots,
            busy_slots=busy,
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
