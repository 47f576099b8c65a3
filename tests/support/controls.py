"""Control planes for tests: a real gRPC server on a real port, and clients that read its errors."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio
from grpc_status import rpc_status
from redis.asyncio import Redis

from callsheet.control.main import Control, running_control
from callsheet.ledger.keys import create_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.redis import connect
from callsheet.runtime.settings import Settings
from callsheet.v1.access_service_pb2_grpc import AccessServiceStub
from callsheet.v1.operations_service_pb2_grpc import OperationsServiceStub
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_service_pb2 import (
    SubmitTaskRequest,
    WatchTaskRequest,
    WatchTaskResponse,
)
from callsheet.v1.task_service_pb2_grpc import TaskServiceStub
from tests.support.eventually import eventually
from tests.support.ledgers import Cell, redis_cell

if TYPE_CHECKING:  # these stubs exist for types alone
    from callsheet.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from callsheet.v1.operations_service_pb2_grpc import OperationsServiceAsyncStub
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

ALL_ROLES = frozenset({"submit", "read", "operate"})
#: The longest a test waits for what must come.
PATIENCE = 30.0

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Told:
    """What a refused call tells its client."""

    code: StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    fields: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    retry_delay: timedelta | None = None


def told(error: aio.AioRpcError) -> Told:
    """Return what the error tells, details and all."""
    found: dict[str, object] = {}
    about, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    status = cast("Status | None", rpc_status.from_call(error))  # pyright: ignore[reportUnknownMemberType, reportArgumentType]  # grpc_status knows calls; an error has the same methods
    for detail in status.details if status is not None else ():
        if detail.Unpack(about):
            found |= {"reason": about.reason, "domain": about.domain}
            found["metadata"] = dict(about.metadata)
        if detail.Unpack(request):
            found["fields"] = tuple(each.field for each in request.field_violations)
            found["descriptions"] = tuple(each.description for each in request.field_violations)
        if detail.Unpack(retry):
            found["retry_delay"] = retry.retry_delay.ToTimedelta()
    return Told(error.code(), error.details() or "", **found)  # pyright: ignore[reportArgumentType]  # each field is set from its own detail above


async def refusal(call: Awaitable[object]) -> Told:
    """Return what a call that must be refused was refused with."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return told(caught.value)


class Client:
    """One key's view of a control plane."""

    def __init__(self, channel: aio.Channel, key: str) -> None:
        self.channel = channel
        self.key = key
        self.metadata: Metadata = (("x-api-key", key),) if key else ()
        self.tasks: TaskServiceAsyncStub = TaskServiceStub(channel)
        self.operations: OperationsServiceAsyncStub = OperationsServiceStub(channel)
        self.access: AccessServiceAsyncStub = AccessServiceStub(channel)

    async def submit(self, request: SubmitTaskRequest | None = None) -> str:
        """Submit a ping, or what is given; return the task's id."""
        response = await self.tasks.SubmitTask(
            request or ping_request(), metadata=self.metadata, timeout=PATIENCE
        )
        return response.task.id

    async def raw(self, method: str, content: bytes) -> bytes:
        """Send bytes that no stub would send; return the bytes of the response."""
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            f"/callsheet.v1.{method}"
        )
        return await call(content, metadata=self.metadata, timeout=PATIENCE)

    async def raw_stream(self, method: str, content: bytes) -> object:
        """Send bytes to a method with a stream of responses; return the first."""
        call: aio.UnaryStreamMultiCallable[bytes, bytes] = self.channel.unary_stream(
            f"/callsheet.v1.{method}"
        )
        return await call(content, metadata=self.metadata, timeout=PATIENCE).read()

    def watch(
        self, task_id: str, *, after: int = 0, epoch: str = ""
    ) -> "aio.UnaryStreamCall[WatchTaskRequest, WatchTaskResponse]":
        """Watch a task."""
        request = WatchTaskRequest(task_id=task_id, after_sequence=after, epoch=epoch)
        return self.tasks.WatchTask(request, metadata=self.metadata, timeout=PATIENCE)


@dataclass(frozen=True)
class Plane:
    """A running control plane, the cell behind it, and a client of its default project."""

    control: Control
    cell: Cell
    redis: Redis
    client: Client
    address: str

    async def newcomer(
        self, *, projects: frozenset[str], roles: frozenset[str] = ALL_ROLES
    ) -> Client:
        """Return a client with a new key."""
        return Client(self.client.channel, await self.key(projects=projects, roles=roles))

    async def key(self, *, projects: frozenset[str], roles: frozenset[str] = ALL_ROLES) -> str:
        """Return the text of a new key."""
        name = self.cell.keys.cell
        _, text = await create_key(self.redis, cell=name, projects=projects, roles=roles)
        return text

    async def written(self) -> tuple[int, int]:
        """Return how many keys there are and how long the log is: what any write would change."""
        connection = RedisConnection(self.redis)
        keys = await connection.command("DBSIZE")
        log = await connection.command("XLEN", self.cell.keys.log)
        return cast("int", keys), cast("int", log)


@asynccontextmanager
async def running_plane(url: str, cell: str, **settings: object) -> AsyncGenerator[Plane]:
    """Yield a control plane in this process, on a free port."""
    chosen = Settings(redis_url=url, cell=cell, grpc_address="127.0.0.1:0", **settings)  # pyright: ignore[reportArgumentType]  # the settings check their values at run time
    redis, own = connect(url, max_connections=16), connect(url, max_connections=16)
    try:
        async with running_control(chosen, own) as control:
            address = f"127.0.0.1:{control.server.port}"
            _, text = await create_key(
                redis, cell=cell, projects=frozenset({"default"}), roles=ALL_ROLES
            )
            async with aio.insecure_channel(address) as channel:
                behind = redis_cell(RedisConnection(redis), cell)
                yield Plane(control, behind, redis, Client(channel, text), address)
    finally:
        await redis.aclose()
        await own.aclose()


def ping_request(echo: str = "", **fields: object) -> SubmitTaskRequest:
    """Return a request that submits a ping."""
    request = SubmitTaskRequest(**fields)  # pyright: ignore[reportArgumentType]  # the message checks its values at run time
    request.spec.ping.echo = echo
    return request


def image_request(**fields: object) -> SubmitTaskRequest:
    """Return a request that submits a generate_image with these input fields."""
    request = SubmitTaskRequest()
    request.spec.generate_image.prompt = "a lighthouse"
    for name, value in fields.items():
        setattr(request.spec.generate_image, name, value)
    return request


async def events(
    call: "aio.UnaryStreamCall[WatchTaskRequest, WatchTaskResponse]",
) -> list[TaskEvent]:
    """Return everything a watch tells until it ends."""
    return [response.event async for response in call]


async def next_event(call: "aio.UnaryStreamCall[WatchTaskRequest, WatchTaskResponse]") -> TaskEvent:
    """Return the next thing a watch tells."""
    response = await call.read()
    assert isinstance(response, WatchTaskResponse), "the watch has ended"
    return response.event


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds."""

    async def look() -> bool:
        return condition()

    await eventually(look)
