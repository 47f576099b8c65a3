"""Two cells that are asked the same things under the same ids, and may differ in times alone."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast

from msgspec.structs import replace

from callsheet.ledger.catalog import TaskType, task_types
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.memory_log import MemoryLog, MemoryRegistry
from callsheet.ledger.memory_store import MemoryCell, MemoryStore
from callsheet.ledger.model import FINAL, Backoff, Task, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.redis_registry import RedisRegistry
from callsheet.ledger.redis_store import RedisStore
from callsheet.ledger.writer import Writer
from tests.support.ledgers import RETENTION, Cell, SettableClock

MOMENT: Final = timedelta(microseconds=1)
#: The catalogue, with back-offs that are over at once.
IMPATIENT: Final[Mapping[str, TaskType]] = MappingProxyType(
    {
        name: replace(kind, backoff=Backoff(MOMENT, 1.0, MOMENT))
        for name, kind in task_types().items()
    }
)
_SOME_TIME: Final = instant(0)


class CountingIds:
    """Makes ids one after the other: two of them make the same ones."""

    def __init__(self) -> None:
        self._made = 0

    def task_id(self) -> str:
        """Return a new task's id."""
        return f"{self._next():08x}-0000-4000-8000-000000000000"

    def operation(self) -> int:
        """Return a new write's id, whose bytes are found nowhere else in a record."""
        return (self._next() * 0x9E37_79B9_7F4A_7C15) % (1 << 62) + (1 << 62)

    def epoch(self) -> str:
        """Return a new epoch."""
        return f"{self._next():08x}"

    def jitter(self) -> float:
        """Return the middle, so that back-offs are as the catalogue has them."""
        return 0.5

    def _next(self) -> int:
        self._made += 1
        return self._made


def twins(connection: RedisConnection, cell: str) -> tuple[Cell, Cell]:
    """Return a cell in memory and one in Redis that make the same ids."""
    keys, memory = Keys(cell), MemoryCell(SettableClock())
    ids = CountingIds(), CountingIds()
    log = RedisLog(connection, keys, new_epoch=lambda: "first")
    stores = MemoryStore(memory, keys), RedisStore(connection, keys)
    writers = [Writer(stores[n], keys, ids[n], retention=RETENTION) for n in (0, 1)]
    ledgers = [Ledger(writer, IMPATIENT) for writer in writers]
    in_memory, in_redis = MemoryRegistry(memory, keys), RedisRegistry(connection, keys)
    remembered = MemoryLog(memory, new_epoch=lambda: "first")
    return (
        Cell(keys, stores[0], remembered, in_memory, writers[0], ledgers[0], IMPATIENT),
        Cell(keys, stores[1], log, in_redis, writers[1], ledgers[1], IMPATIENT),
    )


def plain(answer: object) -> object:
    """Return the answer without its times, so that two can be compared."""
    match answer:
        case Task():
            ended = tuple(replace(each, end_time=_SOME_TIME) for each in answer.ended_attempts)
            return replace(
                answer,
                create_time=_SOME_TIME,
                update_time=_SOME_TIME,
                start_time=None if answer.start_time is None else _SOME_TIME,
                context_time=None if answer.context_time is None else _SOME_TIME,
                ended_attempts=ended,
                ended_before=None if answer.ended_before is None else _SOME_TIME,
            )
        case Exception():
            return type(answer), str(answer)
        case list() | tuple():
            return [plain(each) for each in cast("Sequence[object]", answer)]
        case _:
            return answer


def places(keys: Keys, tasks: Sequence[Task], delayed: frozenset[str]) -> dict[str, set[str]]:
    """Return who stands in which index when these are all tasks, some waiting for a time."""
    found: dict[str, set[str]] = {}

    def stand(key: str, member: str, *, there: bool = True) -> None:
        found.setdefault(key, set()).update({member} if there else ())

    for task in tasks:
        project, state = task.submission.project, task.state
        waits = state is TaskState.PENDING
        runs = state is TaskState.RUNNING
        stand(keys.ready(task.submission.queue), task.id, there=waits and task.id not in delayed)
        stand(keys.delayed, task.id, there=waits and task.id in delayed)
        stand(keys.leases, f"{task.id}/{task.attempt}", there=runs)
        stand(keys.final, task.id, there=task.is_final)
        stand(keys.project(project), task.id)
        stand(keys.project_type(project, task.submission.task_type), task.id)
        stand(keys.project_live(project), task.id, there=not task.is_final)
        expires = task.submission.expire_after is not None and not task.is_final
        stand(keys.expiring, task.id, there=expires)
        for final in FINAL:
            stand(keys.project_final(project, final), task.id, there=state is final)
    return found
