"""What no plane of this kind can beat: the empty gRPC handler, and one durable write."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from redis.asyncio import Redis

from callsheet.embedded.valkey import AppendFsync, EmbeddedValkey
from callsheet.runtime.redis import connect
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from callsheet.v1.task_service_pb2_grpc import TaskServiceStub
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.bench.plane import free_address, speaking

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

_PING: Final = SubmitTaskRequest(spec=TaskSpec(ping=PingInput()))
#: About as long as the record of a small task.
_VALUE: Final = bytes(300)


@dataclass(frozen=True)
class EmptyCaller:
    """Calls a handler that does nothing."""

    stub: TaskServiceAsyncStub

    async def __call__(self, *, timed: bool = False) -> None:
        await self.stub.SubmitTask(_PING, timeout=60)


@dataclass(frozen=True)
class EmptyHandler:
    """grpc.aio alone."""

    stub: TaskServiceAsyncStub

    async def callers(self, count: int) -> Sequence[EmptyCaller]:
        return [EmptyCaller(self.stub)] * count


@dataclass(frozen=True)
class SetCaller:
    """Sets one key of its own, over one connection of its own."""

    redis: Redis
    key: str

    async def __call__(self, *, timed: bool = False) -> None:
        await self.redis.set(self.key, _VALUE)


@dataclass(frozen=True)
class BareRedis:
    """Valkey alone."""

    url: str
    connections: AsyncExitStack

    async def callers(self, count: int) -> Sequence[SetCaller]:
        clients = [connect(self.url, max_connections=1) for _ in range(count)]
        for client in clients:
            self.connections.push_async_callback(client.aclose)
        return [SetCaller(client, f"key:{number}") for number, client in enumerate(clients)]


@asynccontextmanager
async def open_empty_handler(folder: Path) -> AsyncGenerator[EmptyHandler]:
    """Start the server with the empty handler."""
    del folder
    address = free_address()
    with speaking("empty_server.py", address):
        async with grpc.aio.insecure_channel(address) as channel:
            stub: TaskServiceAsyncStub = TaskServiceStub(channel)
            yield EmptyHandler(stub)


@asynccontextmanager
async def open_bare_redis(appendfsync: AppendFsync, folder: Path) -> AsyncGenerator[BareRedis]:
    """Start a Valkey and nothing else."""
    with EmbeddedValkey(folder, appendfsync=appendfsync) as valkey:
        async with AsyncExitStack() as connections:
            yield BareRedis(valkey.url, connections)
