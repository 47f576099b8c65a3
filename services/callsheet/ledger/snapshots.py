"""The tasks there are when somebody begins to watch many: newest first, over several indexes."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from callsheet.ledger.index import Keys, parse_lease
from callsheet.ledger.instants import microseconds
from callsheet.ledger.listing import RUNNING
from callsheet.ledger.model import FINAL, Task, TaskState
from callsheet.ledger.reading import Reading, reading_of
from callsheet.ledger.store import Store

#: Index entries looked at for one snapshot; one that finds too few tasks that fit has more.
LOOKED_AT: Final = 10_000
#: Entries of an index, and tasks, that are read at once.
CHUNK: Final = 128

#: An index entry: the task, and when it was created, in microseconds.
Entry = tuple[str, int]


class WatchFilter(Struct, frozen=True):
    """Which tasks of a project are watched; what is empty means any."""

    project: str
    states: frozenset[TaskState] = frozenset()
    task_types: frozenset[str] = frozenset()
    task_ids: frozenset[str] = frozenset()

    def takes(self, task_id: str, task_type: str) -> bool:
        """Whether a task of the project is watched in some state."""
        return (not self.task_types or task_type in self.task_types) and (
            not self.task_ids or task_id in self.task_ids
        )

    def takes_in(self, *states: TaskState | None) -> bool:
        """Whether a task is watched that is in one of these states."""
        return not self.states or any(state in self.states for state in states)

    def fits(self, task: Task) -> bool:
        """Whether the task is watched as it is."""
        return (
            task.submission.project == self.project
            and self.takes(task.id, task.submission.task_type)
            and self.takes_in(task.state)
        )


class Snapshot:
    """Reads at most *size* tasks that fit; once it has ended, it knows whether there are more."""

    def __init__(
        self, store: Store, wanted: WatchFilter, entries: AsyncGenerator[Entry, None], *, size: int
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._entries = entries
        self._size = size
        self.has_more = False

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """Yield the tasks, newest first."""
        left = self._size
        async with aclosing(self._chunks()) as chunks:
            async for task_ids in chunks:
                for reading in await self._read(task_ids):
                    if not left:
                        self.has_more = True
                        return
                    left -= 1
                    yield reading

    async def _chunks(self) -> AsyncGenerator[list[str], None]:
        """Yield task ids, some at a time, each once; as many as may be looked at."""
        seen: set[str] = set()
        chunk: list[str] = []
        async with aclosing(self._entries) as entries:
            async for task_id, _ in entries:
                if task_id in seen:
                    continue
                if len(seen) == LOOKED_AT:
                    self.has_more = True
                    break
                seen.add(task_id)
                chunk.append(task_id)
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    async def _read(self, task_ids: Sequence[str]) -> list[Reading]:
        readings = [reading_of(each) for each in await self._store.read(task_ids) if each]
        return [reading for reading in readings if self._wanted.fits(reading.task)]


class Snapshots:
    """Finds the indexes that have what is wanted."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    def take(self, wanted: WatchFilter, *, size: int) -> Snapshot:
        """Return what reads the tasks that fit."""
        return Snapshot(self._store, wanted, _merged(self._sources(wanted)), size=size)

    def _sources(self, wanted: WatchFilter) -> list[AsyncGenerator[Entry, None]]:
        if wanted.task_ids:
            return [self._named(sorted(wanted.task_ids))]
        if wanted.states:
            return list(self._of_states(wanted))
        if wanted.task_types:
            project = wanted.project
            return [
                self._index(self._keys.project_type(project, task_type))
                for task_type in sorted(wanted.task_types)
            ]
        return [self._index(self._keys.project(wanted.project))]

    def _of_states(self, wanted: WatchFilter) -> Iterator[AsyncGenerator[Entry, None]]:
        if TaskState.PENDING in wanted.states:
            yield self._index(self._keys.project_live(wanted.project))
        elif TaskState.RUNNING in wanted.states:
            yield self._running()
        for state in sorted(wanted.states & FINAL, key=lambda state: state.value):
            yield self._index(self._keys.project_final(wanted.project, state))

    async def _index(self, key: str) -> AsyncGenerator[Entry, None]:
        below: int | None = None
        while True:
            entries = await self._store.page(key, below=below, limit=CHUNK)
            for entry in entries:
                yield entry
            if len(entries) < CHUNK:
                return
            below = entries[-1][1]

    async def _running(self) -> AsyncGenerator[Entry, None]:
        """What runs is what holds a lease: few, however many wait."""
        leases = await self._store.members(self._keys.leases, limit=RUNNING)
        async for entry in self._named([parse_lease(lease)[0] for lease, _ in leases]):
            yield entry

    async def _named(self, task_ids: Sequence[str]) -> AsyncGenerator[Entry, None]:
        stored = await self._store.read(task_ids)
        tasks = [reading_of(each).task for each in stored if each is not None]
        for task in sorted(tasks, key=lambda task: task.create_time, reverse=True):
            yield task.id, microseconds(task.create_time)


async def _merged(sources: Sequence[AsyncGenerator[Entry, None]]) -> AsyncGenerator[Entry, None]:
    """Yield the entries of sources that are newest first, newest first."""
    heads = [(first, each) for each in sources if (first := await anext(each, None)) is not None]
    while heads:
        place = max(range(len(heads)), key=lambda each: heads[each][0][1])
        entry, source = heads[place]
        yield entry
        following = await anext(source, None)
        if following is None:
            heads.pop(place)
        else:
            heads[place] = following, source
