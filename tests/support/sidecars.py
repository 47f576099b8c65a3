"""Sidecars for tests, put together in this process or told to real ones; and tasks to end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from redis.asyncio import Redis

from callsheet.ledger.deliveries import CIRCUIT, CircuitTerms, Deliveries
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.ledger.instants import instant
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.model import (
    NOTHING,
    CallbackEvent,
    Failure,
    FailureReason,
    Progress,
    Task,
    Usage,
)
from callsheet.ledger.store import Candidate
from callsheet.ledger.webhook_registry import WebhookRegistry
from callsheet.runtime.secrets import webhook_secret
from callsheet.sidecar.courier import Courier, Terms
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.dialling import Dialler, Resolve, Resolver, public_trust
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.posting import Poster
from callsheet.sidecar.sending import Sender
from callsheet.sidecar.tailer import Tailer
from callsheet.tasks.v1.ping_pb2 import PingOutput
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.strict_keys import StrictConnection

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
    kept: KeptDeliveries
    registry: WebhookRegistry
    media: MediaWork

    async def submitted(
        self,
        url: str,
        *,
        events: Sequence[CallbackEvent] = (),
        metadata: Mapping[str, str] = NOTHING,
        trace_parent: str = "",
        request_id: str = "",
    ) -> Task:
        """Return a new task whose webhooks go to the URL."""
        command = ping(
            callback_url=url,
            callback_events=tuple(events),
            metadata=metadata,
            trace_parent=trace_parent,
            request_id=request_id,
        )
        return await self.plane.ledger.submit(OWNER, command)

    async def of_task(self, task_id: str) -> list[DeliveryRecord]:
        """Return the task's deliveries, oldest fact first."""
        return [each.record for each in await self.kept.of_task(task_id)]

    async def progressed(self, task: Task, current: int, *, time: int) -> None:
        """Have the running attempt say how far it is, at that time in microseconds."""
        progress = Progress(current, 10, "denoising", instant(time))
        await self.plane.attempts().keep_progress(task, attempt=task.attempt, progress=progress)

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
        return await self.ended_by(await self.started(task), output=output)

    async def ended_by(self, running: Task, *, output: Message | None = None) -> Task:
        """Return the task after its running attempt ended with the output."""
        packed = AnyMessage()
        packed.Pack(output or PingOutput(echo="hello"))
        content = packed.SerializeToString(deterministic=True)
        return await self.plane.attempts().succeed(
            running, attempt=running.attempt, output=content, usage=Usage(tokens=12)
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
            records = await self.of_task(task.id)
            return records[0] if records and records[0].tries >= tries else None

        found = await eventually(written)
        assert found is not None
        return found


def webhook_cell(
    redis: Redis,
    name: str,
    *,
    circuit: CircuitTerms = CIRCUIT,
    patience: timedelta = timedelta(0),
) -> WebhookCell:
    """Return the cell of that name."""
    connection = StrictConnection(redis, patience=patience)
    plane = redis_cell(connection, name)
    return WebhookCell(
        name,
        redis,
        plane,
        Deliveries(connection, plane.keys, circuit=circuit),
        KeptDeliveries(connection, plane.keys, circuit=circuit),
        WebhookRegistry(connection, plane.keys),
        MediaWork(connection, plane.keys),
    )


def tailer(
    cell: WebhookCell,
    *,
    holder: str = "tailer-1",
    hold_seconds: float = 15,
    recorded: Callable[[Iterable[str]], None] = lambda _: None,
    media: MediaGate | None = None,
) -> Tailer:
    """Return a tailer of the cell; without a *media* gate nothing waits for media."""
    return Tailer(
        log=cell.plane.log,
        store=cell.plane.store,
        registry=cell.plane.registry,
        deliveries=cell.deliveries,
        keys=cell.plane.keys,
        holder=holder,
        hold=timedelta(seconds=hold_seconds),
        media=media or MediaGate(cell.media, cell.plane.store, wait=None),
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
    resolve: Resolve | None = None,
) -> AsyncGenerator[Sequence[Courier]]:
    """Run couriers of the cell, beside a tailer."""
    resolver = Resolver()
    dialler = Dialler(resolve or resolver, allow_loopback=allow_loopback, trust=public_trust())
    async with Poster(dialler, time_limit=time_limit) as poster:
        credentials = Credentials(cell.registry, master_key=MASTER_KEY)
        sender = Sender(poster, credentials, allow_http=allow_http)
        made = [
            Courier(
                cell.deliveries,
                sender,
                credentials,
                terms=terms,
                jitter=lambda: 0.5,
                in_flight=in_flight,
            )
            for _ in range(count)
        ]

        def wake(lines: Iterable[str]) -> None:
            for courier in made:
                courier.wake(lines)

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
