"""What the roles of one run share: the server, what lies outside it, and the passing of time."""

import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import quote

import pytest
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from callsheet.brain.brain import Brain
from callsheet.ledger.catalog import TaskType, task_types
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.index import Keys
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.model import Backoff
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.redis_registry import RedisRegistry
from callsheet.ledger.redis_store import RedisStore
from callsheet.ledger.writer import Writer
from callsheet.runtime.redis import connect
from callsheet.sidecar.dialling import Dialler, Resolver, public_trust
from callsheet.sidecar.posting import Poster
from tests.support.brains import client_of, connected
from tests.support.ledgers import RETENTION, Cell

_MOMENT: Final = timedelta(microseconds=1)
#: Pings that may fail often, and wait for nothing in between.
CATALOG: Final[Mapping[str, TaskType]] = MappingProxyType(
    {"ping": replace(task_types()["ping"], max_attempts=6, backoff=Backoff(_MOMENT, 1.0, _MOMENT))}
)
_REST: Final = timedelta(milliseconds=5)
_NEVER: Final = timedelta(hours=1)
#: What depends on the clock. Rests after a request that failed are short; what is done every second
#: or so is done at once or never, so that a role makes the same requests on a busy machine.
_CLOCKED: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        "broker.claimer._AFTER_ERROR": _REST,
        "sidecar.claiming._PAUSE": _REST,
        "sidecar.courier._PAUSE": _REST,
        "sidecar.tailer._PAUSE": _REST,
        "sidecar.brain_sink._FIRST_PAUSE": _REST,
        "sidecar.tailer._CURSOR_PAUSE": timedelta(0),
        "sidecar.brain_sink._CURSOR_PAUSE": timedelta(0),
        "broker.claimer.HINTS_STAY_GOOD": _NEVER,
        "sidecar.courier._LOOK_EVERY": _NEVER,
        "sidecar.media_registrar._LOOK_EVERY": _NEVER,
    }
)


@dataclass(frozen=True)
class Outside:
    """What the runs of a sweep share, none of it in the server."""

    url: str
    redis: Redis
    brain: Brain
    poster: Poster
    receiver_url: str
    folder: Path


@dataclass
class Story:
    """What happened outside the server, or was acknowledged."""

    submitted: dict[str, str] = field(default_factory=dict[str, str])
    executed: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    #: Attempts whose worker was told that they do not count.
    lost: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    cancelled: set[str] = field(default_factory=set[str])
    epoch: str = ""
    #: (task id, sequence) of every fact, and the sequences at which the tasks ended.
    facts: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    ends: dict[str, int] = field(default_factory=dict[str, int])


class World:
    """One run's cell, seen without any role's eyes."""

    def __init__(
        self,
        outside: Outside,
        cell: str,
        *,
        generation: str = "",
        may_lose_an_attempt: bool = False,
    ) -> None:
        self.generation = generation
        #: Whether a worker dies, or gives up what it cannot write: nothing else costs an attempt.
        self.may_lose_an_attempt = may_lose_an_attempt
        self.outside = outside
        self.story = Story()
        self.cell = cell
        self.redis = outside.redis
        self.plane = plane_of(RedisConnection(self.redis), cell)
        self.keys = self.plane.keys
        self.endpoint = f"{outside.receiver_url}/{quote(cell)}"

    async def command(self, *words: str | int) -> object:
        """Send a command that belongs to no role."""
        return cast("object", await self.redis.execute_command(*words))  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped

    async def expire_roles(self, *roles: str) -> None:
        """Let what a dead holder held run out."""
        for role in roles:
            if await self.command("EXISTS", self.keys.hold(role)):
                await self.command("HSET", self.keys.hold(role), "until", 0)

    async def expire_attempts(self, living: set[str]) -> None:
        """Let leases run out that nobody renews."""
        for member, _ in await self.plane.store.members(self.keys.leases, limit=100):
            if member not in living:
                await self.command("ZADD", self.keys.leases, "XX", 1, member)

    async def expire_deliveries(self) -> None:
        """Let the leases of deliveries run out."""
        found = await self.every_key()
        due = [key for key in found if key.startswith(self.keys.deliveries_due(""))]
        lines = [key for key in found if key.startswith(self.keys.delivery_lines(""))]
        for key in (*due, *lines, self.keys.delivery_projects):
            await self._come(key)

    async def expire_media(self) -> None:
        """Let the leases of media work run out; of a webhook that waits for nothing, its wait."""
        if await self.plane.store.count(self.keys.media_due):
            await self._come(self.keys.media_due)
        else:
            await self._come(self.keys.media_holds)

    async def outlive_retention(self) -> None:
        """Let all that is kept for a while have been kept that long."""
        for key in (self.keys.final, self.keys.delivery_ended):
            await self._come(key)

    async def every_key(self) -> list[str]:
        """Return the cell's keys."""
        found = cast("list[bytes]", await self.command("KEYS", f"{self.keys.prefix}*"))
        return sorted(key.decode() for key in found)

    async def _come(self, key: str) -> None:
        for member, _ in await self.plane.store.members(key, limit=100):
            await self.command("ZADD", key, "XX", 1, member)


def plane_of(connection: RedisConnection, cell: str) -> Cell:
    """Return the ledger of a cell, with the catalogue of the sweep."""
    keys = Keys(cell)
    store = RedisStore(connection, keys)
    writer = Writer(store, keys, RandomIds(), retention=RETENTION)
    log = RedisLog(connection, keys, new_epoch=RandomIds().epoch)
    registry = RedisRegistry(connection, keys)
    return Cell(keys, store, log, registry, writer, Ledger(writer, CATALOG), CATALOG)


@asynccontextmanager
async def outside_of(
    url: str, *, brain_url: str, receiver_url: str, folder: Path
) -> AsyncGenerator[Outside]:
    """Connect to all that runs share."""
    resolver = Resolver()
    dialler = Dialler(resolver, allow_loopback=True, trust=public_trust())
    try:
        async with (
            connect(url, max_connections=64) as redis,
            Poster(dialler, time_limit=timedelta(seconds=15)) as poster,
            client_of(brain_url) as brain,
        ):
            await connected(brain)
            yield Outside(url, redis, brain, poster, receiver_url, folder)
    finally:
        resolver.close()


@contextmanager
def quick_and_quiet() -> Generator[None]:
    """Let no role depend on the clock, nor say what it does."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        for name, length in _CLOCKED.items():
            patch.setattr(f"callsheet.{name}", length)
        structlog.configure(wrapper_class=silent)
        try:
            yield
        finally:
            structlog.reset_defaults()
