"""A whole plane of real processes, any of which a test may kill."""

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import psutil
from redis.asyncio import Redis

from callsheet.client import AsyncTaskClient
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.keys import create_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.redis import connect
from callsheet.runtime.secrets import webhook_secret
from tests.support.ledgers import Cell, redis_cell
from tests.support.processes import Room

CELL = "plane"
PROJECT = "default"
MASTER_KEY = "a master key for tests, 32 or more"
SECRET = webhook_secret(MASTER_KEY.encode(), PROJECT, 1)
LEASE = timedelta(seconds=3)
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


class Plane:
    """Valkey, control, upkeep, worker and sidecar, each a process."""

    def __init__(self, folder: Path, *, cache: Path) -> None:
        self._folder = folder / "valkey"
        self.valkey = EmbeddedValkey(self._folder)
        self.valkey.start()
        self.address = free_address()
        self.environment: Mapping[str, str] = {
            "REDIS_URL": self.valkey.url,
            "CALLSHEET_CELL": CELL,
            "CALLSHEET_STATE_DIR": str(folder),
            "CALLSHEET_CACHE_DIR": str(cache),
            "CALLSHEET_GRPC_ADDRESS": self.address,
            "CALLSHEET_DEVICE": "cpu",
            "CALLSHEET_LEASE_SECONDS": str(LEASE.total_seconds()),
            "CALLSHEET_RETRY_SECONDS": "gpu=0.2",
            "CALLSHEET_WEBHOOK_MASTER_KEY": MASTER_KEY,
        }
        self.rooms: dict[str, Room] = {}
        self.redis: Redis = connect(self.valkey.url, max_connections=8)
        connection = RedisConnection(self.redis, patience=timedelta(seconds=30))
        self.ledger: Cell = redis_cell(connection, CELL)
        self.key = ""

    async def start(self, *, queues: str) -> None:
        """Start every process, and make a key; the worker serves the queues, or all."""
        self.environment = {**self.environment, "CALLSHEET_WORKER_QUEUES": queues}
        _, self.key = await create_key(
            self.redis,
            cell=CELL,
            projects=frozenset({PROJECT}),
            roles=frozenset({"submit", "read", "operate"}),
        )
        for name in ("control", "upkeep", "worker", "sidecar"):
            self.start_room(name)

    def start_room(self, name: str) -> Room:
        """Start one process, and return it when it is ready."""
        room = self.rooms[name] = Room(name, self.environment)
        return room.await_ready()

    def restart(self, name: str) -> Room:
        """Kill one process with -9, and start it anew."""
        self.rooms[name].kill()
        return self.start_room(name)

    def restart_valkey(self) -> None:
        """Start the server again, on its old folder."""
        self.valkey = EmbeddedValkey(self._folder)
        self.valkey.start()

    def runners(self) -> list[psutil.Process]:
        """Return the worker's runner processes."""
        worker = psutil.Process(self.rooms["worker"].process.pid)
        return [child for child in worker.children() if "callsheet.runner" in child.cmdline()]

    def client(self) -> AsyncTaskClient:
        """Return a client of the plane."""
        return AsyncTaskClient(self.address, key=self.key, project=PROJECT)

    async def stop(self) -> None:
        """End every process."""
        with ExitStack() as stack:
            stack.callback(self.valkey.stop)
            for room in self.rooms.values():
                if room.process.poll() is None:
                    stack.callback(room.kill)
        await self.redis.aclose()


@asynccontextmanager
async def whole_plane(
    folder: Path, *, cache: Path, queues: str = "", variables: Mapping[str, str] = NO_VARIABLES
) -> AsyncGenerator[Plane]:
    """A plane that runs, with more variables in its environment, ended at the end."""
    plane = Plane(folder, cache=cache)
    plane.environment = {**plane.environment, **variables}
    try:
        await plane.start(queues=queues)
        yield plane
    finally:
        await plane.stop()


def free_address() -> str:
    """Return a loopback address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
