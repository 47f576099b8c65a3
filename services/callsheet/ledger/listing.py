"""Lists of tasks, page by page, over a closed set of indexed filters."""

from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from callsheet.ledger.codec import decode_task
from callsheet.ledger.index import Keys, parse_lease
from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import FINAL, Task, TaskState
from callsheet.ledger.page_token import page_token, parse_page_token
from callsheet.ledger.store import Store

#: Index entries read for one page; a page that finds too few matches is shorter.
SCANNED: Final = 1_000
#: Running tasks read for one page: more than all slots of a large cell.
RUNNING: Final = 10_000
#: Bytes of specs and outputs past which a page is full, however few its tasks.
PAGE_BYTES: Final = 4 * 1024 * 1024


class TaskFilter(Struct, frozen=True):
    """Which tasks of a project are wanted; None and '' mean any."""

    project: str
    state: TaskState | None = None
    task_type: str = ""

    def matches(self, task: Task) -> bool:
        """Whether the task is wanted."""
        return (
            task.submission.project == self.project
            and self.state in (None, task.state)
            and self.task_type in ("", task.submission.task_type)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks, newest first, and the token of the next page; '' after the last."""

    tasks: tuple[Task, ...]
    next_token: str


class Listing:
    """Reads pages from the indexes."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def page(self, wanted: TaskFilter, *, size: int, token: str) -> Page:
        """Return the page that the token names. Raises PageTokenInvalid."""
        below = _parse(token, wanted)
        if wanted.state is TaskState.RUNNING:
            return await self._running(wanted, size, below)
        found: list[Task] = []
        scanned = held = 0
        while len(found) < size and scanned < SCANNED and held < PAGE_BYTES:
            entries = await self._store.page(self._key(wanted), below=below, limit=size)
            scanned += max(1, len(entries))
            for (_, score), task in zip(entries, await self._tasks(entries), strict=True):
                below = score
                if task is not None and wanted.matches(task):
                    found.append(task)
                    held += len(task.submission.spec) + len(task.output)
                if len(found) == size or held >= PAGE_BYTES:
                    break
            else:
                if len(entries) == size:
                    continue
                return Page(tuple(found), "")
        return Page(tuple(found), _token(below, wanted))

    async def _running(self, wanted: TaskFilter, size: int, below: int | None) -> Page:
        """What runs is what holds a lease: few, however many wait."""
        leases = await self._store.members(self._keys.leases, limit=RUNNING)
        tasks = await self._tasks([(parse_lease(lease)[0], at) for lease, at in leases])
        found = sorted(
            (task for task in tasks if task is not None and wanted.matches(task)),
            key=lambda task: task.create_time,
            reverse=True,
        )
        found = [task for task in found if below is None or microseconds(task.create_time) < below]
        page = tuple(found[:size])
        more = len(found) > size
        return Page(page, _token(microseconds(page[-1].create_time), wanted) if more else "")

    async def _tasks(self, entries: list[tuple[str, int]]) -> list[Task | None]:
        stored = await self._store.read([task_id for task_id, _ in entries])
        return [None if found is None else decode_task(found) for found in stored]

    def _key(self, wanted: TaskFilter) -> str:
        if wanted.state in FINAL:
            return self._keys.project_final(wanted.project, wanted.state)
        if wanted.state is not None:
            return self._keys.project_live(wanted.project)
        if wanted.task_type:
            return self._keys.project_type(wanted.project, wanted.task_type)
        return self._keys.project(wanted.project)


def _token(below: int | None, wanted: TaskFilter) -> str:
    return page_token(below or 0, of=_list(wanted))


def _parse(token: str, wanted: TaskFilter) -> int | None:
    return parse_page_token(token, of=_list(wanted))


def _list(wanted: TaskFilter) -> str:
    state = wanted.state.value if wanted.state else ""
    return f"{wanted.project}/{state}/{wanted.task_type}"
