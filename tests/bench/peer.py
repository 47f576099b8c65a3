"""A peer that is up: its small app behind FastAPI, on a fresh Valkey, in its own environment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis

from callsheet.embedded.valkey import AppendFsync, EmbeddedValkey
from callsheet.runtime.redis import connect
from tests.bench.http_caller import HttpCaller, dial
from tests.bench.plane import free_address
from tests.bench.processes import running
from tests.bench.witnessed import HERE, PATIENCE, REPOSITORY, Witnessed, witnessing

_PAUSE: Final = 0.02


@dataclass(frozen=True)
class Peer:
    """How a peer is started; commands are modules and arguments for its own Python."""

    name: str
    title: str
    configuration: str
    worker: Sequence[str]
    #: How many of its tasks are not run and acknowledged yet.
    unfinished: Callable[[Redis], Awaitable[int]]
    in_flight: int = 64
    servers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def python(self) -> Path:
        """The interpreter of its environment, which the Makefile makes."""
        return REPOSITORY / self.environment_folder / "bin" / "python"

    @property
    def environment_folder(self) -> str:
        """Where that is in the repository."""
        return f".venv/peers/{self.name}"

    @property
    def is_installed(self) -> bool:
        """Whether its environment was made to the end."""
        return (self.python.parents[1] / ".ready").is_file()


@dataclass(frozen=True)
class PeerStack:
    """A peer whose HTTP service answers."""

    peer: Peer
    port: int
    redis: Redis
    witnessed: Witnessed
    environment: Mapping[str, str]
    log: Path
    #: Closes what was opened, before the service goes.
    ending: ExitStack

    async def callers(self, count: int) -> Sequence[HttpCaller]:
        dialled = [await dial(self.port) for _ in range(count)]
        for caller in dialled:
            self.ending.callback(caller.close)
        return dialled

    @contextmanager
    def worker(self) -> Generator[None]:
        command = [str(self.peer.python), "-m", *self.peer.worker]
        with running(command, folder=_home(self.peer), environment=self.environment, log=self.log):
            yield

    async def submit_many(self, count: int) -> None:
        caller = await dial(self.port)
        try:
            await caller.many(count)
        finally:
            caller.close()

    async def unfinished(self) -> int:
        return await self.peer.unfinished(self.redis)


@asynccontextmanager
async def open_peer(
    peer: Peer, appendfsync: AppendFsync, folder: Path
) -> AsyncGenerator[PeerStack]:
    """Start a fresh Valkey and the peer's HTTP service on it, and take both down at the end."""
    port = int(free_address().rpartition(":")[2])
    with ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey", appendfsync=appendfsync))
        witnessed = stack.enter_context(witnessing(folder / "witness"))
        environment = {
            **peer.environment,
            **witnessed.environment,
            "BENCH_REDIS_SOCKET": unquote(urlsplit(valkey.url).path),
        }
        log = folder / "log"
        server = stack.enter_context(
            running(_serving(peer, port), folder=_home(peer), environment=environment, log=log)
        )
        redis = connect(valkey.url, max_connections=2)
        try:
            await _until_it_listens(port, lambda: server.poll() is not None, log)
            yield PeerStack(peer, port, redis, witnessed, environment, log, stack)
        except BaseException:
            print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            await redis.aclose()


def _serving(peer: Peer, port: int) -> list[str]:
    words = ["-m", "uvicorn", "app:api", "--port", str(port), "--workers", str(peer.servers)]
    words += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    # The clients of the bench are silent while a worker starts.
    words += ["--timeout-keep-alive", "600"]
    return [str(peer.python), *words, "--log-level", "warning"]


def _home(peer: Peer) -> Path:
    return HERE / "peers" / peer.name


async def _until_it_listens(port: int, ended: Callable[[], bool], log: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                (await dial(port)).close()
            except OSError:
                if ended():
                    raise SystemExit(f"the service did not start, see {log}") from None
                await asyncio.sleep(_PAUSE)
            else:
                return
