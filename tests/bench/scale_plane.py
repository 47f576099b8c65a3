"""A plane whose every process may be looked into and killed, and one pretended worker of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import psutil
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import task_types
from callsheet.ledger.keys import create_key
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.model import Task, Usage
from callsheet.ledger.redis_cell import RedisCell, redis_cell
from callsheet.ledger.store import Candidate
from callsheet.runner.handlers import pack_output
from callsheet.runtime.redis import connect
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from callsheet.v1.task_service_pb2_grpc import TaskServiceStub
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.measure import BATCH, TIMEOUT
from tests.bench.plane import free_address
from tests.bench.scale_series import cpu_seconds
from tests.support.processes import Room

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

CELL: Final = "scale"
PROJECT: Final = "bench"
QUEUE: Final = "system"
#: What a process without settings of its own has.
LEASE: Final = timedelta(seconds=15)
RETENTION: Final = timedelta(days=30)
OUTPUT: Final = pack_output("ping", PingOutput()).SerializeToString()

_PRINCIPAL: Final = Principal("00000000", frozenset({PROJECT}), frozenset(Role))

Metadata = tuple[tuple[str, str], ...]


@dataclass
class ScalePlane:
    """An embedded Valkey with `appendfsync always`, and the processes that were started on it."""

    folder: Path
    valkey: EmbeddedValkey
    redis: Redis
    cell: RedisCell
    metadata: Metadata
    address: str
    environment: Mapping[str, str]
    rooms: dict[str, Room] = field(default_factory=dict[str, Room])

    def start(self, room: str, *, name: str = "", **variables: str) -> Room:
        """Start a process, and return it when it is ready; *name* tells two of a kind apart."""
        name = name or room
        log = self.folder / f"{name}.log"
        started = self.rooms[name] = Room(room, {**self.environment, **variables}, log=log)
        return started.await_ready()

    def pids(self) -> dict[str, int]:
        """Return the process ids of all that runs, the runners of workers included."""
        found = {name: room.process.pid for name, room in self.rooms.items()}
        for name, pid in tuple(found.items()):
            for number, child in enumerate(psutil.Process(pid).children(recursive=True), 1):
                found[f"{name} runner {number}"] = child.pid
        if self.valkey.pid is not None:
            found["valkey"] = self.valkey.pid
        return found

    def worker(self) -> PretendedWorker:
        """Return a worker that claims and ends attempts, with nothing in between."""
        writer = self.cell.writer(retention=RETENTION)
        return PretendedWorker(
            Attempts(writer, self.cell.log, task_types(), worker="pretended-worker", lease=LEASE)
        )

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[TaskServiceAsyncStub]:
        """A stub on a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            stub: TaskServiceAsyncStub = TaskServiceStub(channel)
            yield stub

    async def accept(self) -> Task:
        """Submit a ping without a control plane."""
        ledger = Ledger(self.cell.writer(retention=RETENTION), task_types())
        spec = ping().spec.SerializeToString(deterministic=True)
        return await ledger.submit(_PRINCIPAL, SubmitCommand(spec=spec, task_type="ping"))

    async def submit(
        self, stub: TaskServiceAsyncStub, request: SubmitTaskRequest, count: int
    ) -> list[str]:
        """Submit equal tasks in batches; return their ids."""
        ids: list[str] = []
        while len(ids) < count:
            batch = SubmitTasksRequest(requests=[request] * min(BATCH, count - len(ids)))
            answer = await stub.SubmitTasks(batch, metadata=self.metadata, timeout=TIMEOUT)
            for result in answer.results:
                if not result.HasField("task"):
                    raise SystemExit(f"a task of a batch was refused: {result.refusal.message}")
                ids.append(result.task.id)
        return ids


class PretendedWorker:
    """What a worker asks of the ledger, without the worker."""

    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts

    async def claim(self, *task_ids: str) -> tuple[Task, ...]:
        """Start an attempt of each of these tasks."""
        claims = await self.attempts.claim(
            count=len(task_ids),
            queues=(QUEUE,),
            candidates=[Candidate(0, task_id) for task_id in task_ids],
            device="",
        )
        if len(claims.tasks) != len(task_ids):
            raise SystemExit(f"{len(claims.tasks)} of {len(task_ids)} tasks could be claimed")
        return claims.tasks

    async def look(self) -> tuple[Candidate, ...]:
        """Return who is ready."""
        claims = await self.attempts.claim(count=0, queues=(QUEUE,), candidates=(), device="")
        return claims.ready

    async def succeed(self, task: Task) -> None:
        """End an attempt as a ping does."""
        usage = Usage(run_seconds=1e-5)
        await self.attempts.succeed(task, attempt=task.attempt, output=OUTPUT, usage=usage)


@asynccontextmanager
async def scale_plane(folder: Path, *rooms: str, **variables: str) -> AsyncGenerator[ScalePlane]:
    """Bring a Valkey and these rooms up, with these settings; kill what is left at the end."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        redis = await stack.enter_async_context(connect(valkey.url, max_connections=16))
        _, key = await create_key(
            redis, cell=CELL, projects=frozenset({PROJECT}), roles=frozenset({"submit", "read"})
        )
        address = free_address()
        plane = ScalePlane(
            folder=folder,
            valkey=valkey,
            redis=redis,
            cell=redis_cell(redis, CELL),
            metadata=(("x-api-key", key),),
            address=address,
            environment=_environment(folder, valkey.url, address) | variables,
        )
        stack.enter_context(_killed(plane.rooms))
        for room in rooms:
            plane.start(room)
        yield plane


def _environment(folder: Path, url: str, address: str) -> dict[str, str]:
    return {
        "REDIS_URL": url,
        "CALLSHEET_STATE_DIR": str(folder),
        "CALLSHEET_CELL": CELL,
        "CALLSHEET_GRPC_ADDRESS": address,
        "CALLSHEET_DEVICE": "cpu",
        "CALLSHEET_LOG_LEVEL": "warning",
    }


@contextmanager
def _killed(rooms: Mapping[str, Room]) -> Generator[None]:
    try:
        yield
    finally:
        for room in rooms.values():
            if room.process.poll() is None:
                room.kill()


def ping(echo: str = "") -> SubmitTaskRequest:
    """Return a request for a ping."""
    return SubmitTaskRequest(spec=TaskSpec(ping=PingInput(echo=echo)))


def process_cpu_seconds(pid: int) -> float:
    """Return the time that the threads of a process were on a CPU, to the nanosecond."""
    return cpu_seconds(_schedstats(pid))


def _schedstats(pid: int) -> Generator[str]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # It may have ended since.
        with suppress(FileNotFoundError, ProcessLookupError):
            yield (thread / "schedstat").read_text()
