"""A plane to measure: an embedded Valkey with `appendfsync always`, control, and workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from redis.asyncio import Redis

from callsheet.embedded.valkey import AppendFsync, EmbeddedValkey
from callsheet.ledger.index import Keys
from callsheet.ledger.keys import create_key
from callsheet.runtime.lifecycle import READY_VARIABLE
from callsheet.runtime.redis import connect
from callsheet.v1.task_service_pb2_grpc import TaskServiceStub

if TYPE_CHECKING:
    # The stubs know it; the module does not.
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

CELL = "bench"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Plane:
    """What measurements ask of the plane."""

    stub: TaskServiceAsyncStub
    redis: Redis
    keys: Keys
    metadata: tuple[tuple[str, str], ...]
    environment: dict[str, str]

    @contextmanager
    def worker(self, command: Sequence[str]) -> Generator[None]:
        """A worker process with 8 threads, for the queue of pings."""
        with self.process(command, CALLSHEET_WORKER_QUEUES="system"):
            yield

    @contextmanager
    def process(self, command: Sequence[str], **environment: str) -> Generator[None]:
        """A process of the plane, from when it is ready."""
        with _process(command, {**self.environment, **environment}):
            yield


@asynccontextmanager
async def measured_plane(
    folder: Path, *, appendfsync: AppendFsync = "always"
) -> AsyncGenerator[Plane]:
    """Bring the processes up, and take them down at the end."""
    control = free_address()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedValkey(folder / "valkey", appendfsync=appendfsync))
        environment = {
            "REDIS_URL": server.url,
            "CALLSHEET_STATE_DIR": str(folder),
            "CALLSHEET_CELL": CELL,
            "CALLSHEET_GRPC_ADDRESS": control,
            "CALLSHEET_WORKER_SLOTS": "8",
            # Each process warns of an unsafe Redis; here it was asked for.
            "CALLSHEET_LOG_LEVEL": "warning" if appendfsync == "always" else "error",
        }
        redis = connect(server.url, max_connections=4)
        _, key = await create_key(
            redis, cell=CELL, projects=frozenset({"bench"}), roles=frozenset({"submit", "read"})
        )
        stack.enter_context(_process([sys.executable, "-m", "callsheet.control"], environment))
        async with grpc.aio.insecure_channel(control) as channel:
            yield Plane(
                stub=_stub(channel),
                redis=redis,
                keys=Keys(CELL),
                metadata=(("x-api-key", key),),
                environment=environment,
            )
        await redis.aclose()


def _stub(channel: grpc.aio.Channel) -> TaskServiceAsyncStub:
    return TaskServiceStub(channel)


@contextmanager
def _process(command: Sequence[str], environment: dict[str, str]) -> Generator[None]:
    reading, writing = os.pipe()
    with subprocess.Popen(
        command,
        env={**os.environ, **environment, READY_VARIABLE: str(writing)},
        pass_fds=[writing],
    ) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            if not pipe.readline():
                raise SystemExit(f"{command} ended before it was ready")
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def speaking(script: str, argument: str) -> Generator[None]:
    """A script of this folder that prints a line when it is ready."""
    command = [sys.executable, str(HERE / script), argument]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        if process.stdout is None or not process.stdout.readline():
            raise SystemExit(f"{script} did not start")
        try:
            yield
        finally:
            process.kill()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
