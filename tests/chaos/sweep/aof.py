"""A server's append-only file, cut off at chosen bytes, and what a server makes of it then."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.redis_connection import RedisConnection, Word
from callsheet.runtime.redis import connect
from callsheet.upkeep.epoch_watch import EpochWatch
from callsheet.upkeep.mark import MarkFile
from tests.support.ledgers import Cell, redis_cell

FOLDER: Final = "appendonlydir"
STAMP: Final = "engine.json"
#: How each type of key is read in full.
_READ: Final[Mapping[bytes, Callable[[str], tuple[Word, ...]]]] = {
    b"string": lambda key: ("GET", key),
    b"hash": lambda key: ("HGETALL", key),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
}

Contents = dict[str, object]


@dataclass(frozen=True)
class Commit:
    """One commit of a history: its bytes in the file, what stood before, and the mark after."""

    name: str
    start: int
    end: int
    before: Contents
    #: Whether it wrote facts, which an epoch watch that saw them misses when they are gone.
    has_facts: bool


@dataclass(frozen=True)
class Opened:
    """A server on a copy of the file, and the cell in it."""

    redis: Redis
    cell: Cell
    folder: Path

    async def contents(self) -> Contents:
        """Return all that the server holds."""
        connection = RedisConnection(self.redis)
        keys = sorted(cast("list[bytes]", await connection.command("KEYS", "*")))
        found: Contents = {}
        for key in (each.decode() for each in keys):
            kind = cast("bytes", await connection.command("TYPE", key))
            found[key] = await connection.command(*_READ[kind](key))
        return found

    async def watched(self, mark: Path) -> str:
        """Let an epoch watch with a copy of this mark look once; return the epoch after it."""
        own = self.folder / mark.name
        shutil.copy(mark, own)
        await EpochWatch(self.cell.log, RandomIds(), MarkFile(own)).run_once()
        return await self.cell.log.epoch()


@dataclass(frozen=True)
class History:
    """Commits on top of one another, as a server wrote them, and the marks between them."""

    folder: Path
    cell: str
    commits: list[Commit]
    #: What stands after the last commit.
    contents: Contents

    @property
    def marks(self) -> list[Path]:
        """The mark before the first commit, and after each."""
        return [self.folder / f"mark-{number}.json" for number in range(len(self.commits) + 1)]

    @asynccontextmanager
    async def cut_at(self, size: int, folder: Path) -> AsyncGenerator[Opened]:
        """Start a server in the folder on a copy of the file that ends after so many bytes."""
        shutil.copytree(self.folder / "server" / FOLDER, folder / FOLDER)
        shutil.copy(self.folder / "server" / STAMP, folder / STAMP)
        with _file(folder).open("rb+") as file:
            file.truncate(size)
        async with opened(folder, self.cell) as found:
            yield found
        shutil.rmtree(folder)


@asynccontextmanager
async def opened(folder: Path, cell: str) -> AsyncGenerator[Opened]:
    """Run a server in the folder."""
    server = EmbeddedValkey(folder)
    await asyncio.to_thread(server.start)
    try:
        async with connect(server.url, max_connections=4) as redis:
            yield Opened(redis, redis_cell(RedisConnection(redis), cell), folder)
    finally:
        await asyncio.to_thread(server.kill)


async def history(
    folder: Path, cell: str, steps: Mapping[str, Callable[[Opened], Awaitable[object]]]
) -> History:
    """Take the steps, each of which is one commit, and note what stands in between."""
    commits: list[Commit] = []
    async with opened(folder / "server", cell) as found:
        mark = EpochWatch(found.cell.log, RandomIds(), MarkFile(folder / "mark.json"))
        await mark.run_once()
        shutil.copy(folder / "mark.json", folder / "mark-0.json")
        for number, (name, step) in enumerate(steps.items(), start=1):
            start, before = _file(found.folder).stat().st_size, await found.contents()
            logged = await found.cell.log.length()
            await step(found)
            end = _file(found.folder).stat().st_size
            assert end > start, f"{name} wrote nothing"
            has_facts = await found.cell.log.length() > logged
            commits.append(Commit(name, start, end, before, has_facts))
            await mark.run_once()
            shutil.copy(folder / "mark.json", folder / f"mark-{number}.json")
            assert _file(found.folder).stat().st_size == end, "the watch wrote something"
        contents = await found.contents()
    return History(folder, cell, commits, contents)


def _file(folder: Path) -> Path:
    (file,) = (folder / FOLDER).glob("*.incr.aof")
    return file
