"""Sidecars for tests, put together in this process or told to real ones; and tasks to end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from redis.asyncio import Redis

from callsheet.ledger.deliveries import Deliveries, DeliveryRecord
from callsheet.ledger.model import NOTHING, Failure, FailureReason, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate
from callsheet.runtime.secrets import webhook_secret
from callsheet.sidecar.courier import Courier, Terms
from callsheet.sidecar.dialling import Dialler, Resolver, public_trust
from callsheet.sidecar.posting import Poster
from callsheet.sidecar.sending import Sender
from callsheet.sidecar.tailer import Tailer
from callsheet.tasks.v1.ping_pb2 import PingOutput
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, ping, redis_cell

MASTER_KEY = b"a master key for tests, 32 or more"
SECRET = webhook_secret(MASTER_KEY, "default", 1)
TERMS = Terms(
    schedule=(timedelta(milliseconds=20),) * 3,
    lease=timedelta(seconds=30),
    retention=timedelta(days=30),
)


@dataclass(frozen=True)
class WebhookCell:
    """A cell in Redis, with its delivery queues."""

    name: str
    redis: Redis
    plane: Cell
    deliveries: Deliveries

    async def submitted(
        self, url: str, *, metadata: Mapping[str, str] = NOTHING, trace_parent: str = ""
    ) -> Task:
        """Return a new task whose webhook goes to the URL."""
        command = ping(callback_url=url, metadata=metadata, trace_parent=trace_parent)
        return await self.plane.ledger.submit(OWNER, command)

    async def started(self, task: Task) -> Task:
        """Return the task with its first attempt running."""
        candidates = [Candidate(0, task.id)]
        claims = await self.plane.attempts().claim(
            count=1, queues=("system",), candidates=candidates, device="cpu"
        )
        return claims.tasks[0]

    async def succeeded(self, url: str, *, output: Message | None = None) -> Task:
        """Return a task that ended with the output."""
        return await self.ended(await self.submitted(url), output=output)

    async def ended(self, task: Task, *, output: Message | None = None) -> Task:
        """Return the task after it started and ended with the output."""
        packed = AnyMessage()
        packed.Pack(output or PingOutput(echo="hello"))
        content = packed.SerializeToString(deterministic=True)
        running = await self.started(task)
        return await self.plane.attempts().succeed(
            running, attempt=1, output=content, usage=Usage(tokens=12)
        )

    async def failed(self, url: str) -> Task:
        """Return a task that failed for good."""
        failure = Failure(FailureReason.INVALID_INPUT, "the prompt has no words")
        task = await self.started(await self.submitted(url))
        return await self.plane.attempts().fail(task, attempt=1, failure=failure)

    async def cancelled(self, url: str, *, reason: str = "") -> Task:
        """Return a task that was cancelled before it started."""
        task = await self.submitted(url)
        return await self.plane.ledger.cancel(OWNER, task.id, reason=reason)

    async def settled(self, task: Task, *, tries: int = 1) -> DeliveryRecord:
        """Wait until so many tries of the task's one delivery are written; return it."""

        async def written() -> DeliveryRecord | None:
            records = await self.deliveries.of_task(task.id)
            return records[0] if records and records[0].tries >= tries else None

        found = await eventually(written)
        assert found is not None
        return found


def webhook_cell(redis: Redis, name: str) -> WebhookCell:
    """Return the cell of that name."""
    connection = RedisConnection(redis)
    plane = redis_cell(connection, name)
    return WebhookCell(name, redis, plane, Deliveries(connection, plane.keys))


def tailer(
    cell: WebhookCell,
    *,
    holder: str = "tailer-1",
    hold_seconds: float = 15,
    recorded: Callable[[], None] = lambda: None,
) -> Tailer:
    """Return a tailer of the cell."""
    return Tailer(
        log=cell.plane.log,
        store=cell.plane.store,
        registry=cell.plane.registry,
        deliveries=cell.deliveries,
        keys=cell.plane.keys,
        holder=holder,
        hold=timedelta(seconds=hold_seconds),
        recorded=recorded,
    )


@asynccontextmanager
async def running(*loops: Courier | Tailer) -> AsyncGenerator[asyncio.Event]:
    """Run couriers and tailers; at the end stop them and wait until they have."""
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop.run(stop))
        try:
            yield stop
        finally:
            stop.set()


@asynccontextmanager
async def couriers(
    cell: WebhookCell,
    *,
    count: int = 1,
    terms: Terms = TERMS,
    allow_loopback: bool = True,
    allow_http: bool = True,
    time_limit: timedelta = timedelta(seconds=15),
    in_flight: int = 128,
) -> AsyncGenerator[Sequence[Courier]]:
    """Run couriers of the cell, beside a tailer."""
    resolver = Resolver()
    dialler = Dialler(resolver, allow_loopback=allow_loopback, trust=public_trust())
    async with Poster(dialler, time_limit=time_limit) as poster:
        sender = Sender(
            cell.plane.store,
            poster,
            secret_of=lambda project: webhook_secret(MASTER_KEY, project, 1),
            allow_http=allow_http,
        )
        made = [
            Courier(cell.deliveries, sender, terms=terms, jitter=lambda: 0.5, in_flight=in_flight)
            for _ in range(count)
        ]

        def wake() -> None:
            for courier in made:
                courier.wake()

        async with running(*made, tailer(cell, recorded=wake)):
            yield made
    resolver.close()


def sidecar_environment(redis_url: str, cell: str, folder: Path) -> dict[str, str]:
    """Return what a real sidecar is told: short leases and waits, so that tests are short too."""
    return {
        "REDIS_URL": redis_url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_STATE_DIR": str(folder),
        "CALLSHEET_WEBHOOK_MASTER_KEY": MASTER_KEY.decode(),
        "CALLSHEET_LEASE_SECONDS": "1",
        "CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS": "1",
        "CALLSHEET_WEBHOOK_RETRY_SECONDS": "0.05,0.05,0.05",
    }
