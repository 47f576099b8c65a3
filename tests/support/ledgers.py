"""Ledgers for tests: every store behind the same handles, with ids and times that tests decide."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import TaskType, task_types
from callsheet.ledger.codec import event_of, parse_event
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.log import Log
from callsheet.ledger.machine import fold
from callsheet.ledger.memory_log import MemoryLog, MemoryRegistry
from callsheet.ledger.memory_store import MemoryCell, MemoryStore
from callsheet.ledger.model import Task
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.redis_registry import RedisRegistry
from callsheet.ledger.redis_store import RedisStore
from callsheet.ledger.registry import Registry
from callsheet.ledger.store import Store
from callsheet.ledger.writer import Writer
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_spec_pb2 import TaskSpec

LEASE = timedelta(seconds=15)
SECONDS = 60
RETENTION = timedelta(days=30)
OWNER = Principal("00000000", frozenset({"default"}), frozenset(Role))
STRANGER = Principal("11111111", frozenset({"elsewhere"}), frozenset(Role))


class SettableClock:
    """Tells the time that the test set, in microseconds, a little later at each look."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        self.now += 1_000
        return self.now

    def advance(self, length: timedelta) -> None:
        """Let time pass."""
        self.now += length // timedelta(microseconds=1)


@dataclass(frozen=True)
class Cell:
    """One cell's ledger, all sides of it."""

    keys: Keys
    store: Store
    log: Log
    registry: Registry
    writer: Writer
    ledger: Ledger
    catalog: Mapping[str, TaskType]

    def attempts(self, worker: str = "worker-1", *, lease: timedelta = LEASE) -> Attempts:
        """Return the ledger's side for one worker."""
        return Attempts(
            self.writer,
            self.log,
            self.catalog,
            worker=worker,
            lease=lease,
            workers=KnownWorkers(self.registry),
        )

    async def until(self, task_id: str, is_so: Callable[[Task], bool]) -> Task:
        """Return the task once it is so; every fact in the log is a reason to look again."""
        async with asyncio.timeout(SECONDS):
            while True:
                position = await self.log.end()
                task = await self.writer.read(task_id)
                if is_so(task):
                    return task
                await self.log.after(position, limit=1, timeout=timedelta(seconds=1))

    async def final(self, task_id: str) -> Task:
        """Return the task once it is final."""
        return await self.until(task_id, lambda task: task.is_final)

    async def folded(self, task_id: str) -> Task:
        """Return what the task's facts fold to."""
        records = [
            parse_event(fact) for fact in await self.store.facts(task_id, after=0, limit=1000)
        ]
        assert [record.sequence for record in records] == list(range(1, len(records) + 1))
        return fold(task_id, [(event_of(record), instant(record.time)) for record in records])


def memory_cell(clock: SettableClock | None = None, *, limit_bytes: int = 0) -> Cell:
    """Return a cell in memory."""
    keys = Keys("memory")
    cell = MemoryCell(clock or SettableClock(), limit_bytes=limit_bytes)
    return _cell(
        keys,
        MemoryStore(cell, keys),
        MemoryLog(cell, new_epoch=RandomIds().epoch),
        MemoryRegistry(cell, keys),
    )


def redis_cell(connection: RedisConnection, cell: str) -> Cell:
    """Return a cell in Redis."""
    keys = Keys(cell)
    return _cell(
        keys,
        RedisStore(connection, keys),
        RedisLog(connection, keys, new_epoch=RandomIds().epoch),
        RedisRegistry(connection, keys),
    )


def _cell(keys: Keys, store: Store, log: Log, registry: Registry) -> Cell:
    writer = Writer(store, keys, RandomIds(), retention=RETENTION)
    ledger = Ledger(writer, task_types())
    return Cell(keys, store, log, registry, writer, ledger, task_types())


def ping(echo: str = "", **changes: object) -> SubmitCommand:
    """Return a command that submits a ping."""
    spec = TaskSpec(ping=PingInput(echo=echo)).SerializeToString(deterministic=True)
    command = SubmitCommand(spec=spec, task_type="ping")
    return command._replace(**changes)
