"""A ledger that was restored, or lost its tail, gets another epoch, loudly."""

import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.position import Position
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.redis import connect
from callsheet.upkeep.epoch_watch import EpochWatch
from callsheet.upkeep.mark import Mark, MarkFile, MarkUnreadable
from tests.support.ledgers import OWNER, Cell, ping, redis_cell

AOF = "appendonlydir"


@dataclass(frozen=True)
class Home:
    """A server of one's own, with a folder for copies and one for the mark."""

    server: EmbeddedValkey
    redis: Redis
    folder: Path
    plane: Cell

    def watch(self) -> EpochWatch:
        """Return the watch of a process that has just started."""
        return EpochWatch(self.plane.log, RandomIds(), MarkFile(self.folder / "mark.json"))

    def back_up(self) -> None:
        """Copy what the server has acknowledged."""
        shutil.copytree(self.folder / "server" / AOF, self.folder / "copy")

    async def restore(self) -> None:
        """Put the copy in place of what the server has, as if it crashed and lost its tail."""
        self.server.kill()
        await self.redis.connection_pool.disconnect()
        shutil.rmtree(self.folder / "server" / AOF)
        shutil.copytree(self.folder / "copy", self.folder / "server" / AOF)
        self.server.start()

    async def submit(self) -> None:
        """Write one fact."""
        await self.plane.ledger.submit(OWNER, ping())


@pytest.fixture
async def home(tmp_path: Path, cell: str) -> AsyncIterator[Home]:
    """A home with one fact in its log."""
    async with _home(tmp_path, cell) as found:
        await found.submit()
        yield found


@asynccontextmanager
async def _home(folder: Path, cell: str) -> AsyncGenerator[Home, None]:
    with EmbeddedValkey(folder / "server") as server:
        async with connect(server.url, max_connections=4) as redis:
            plane = redis_cell(RedisConnection(redis), cell)
            yield Home(server, redis, folder, plane)


@pytest.mark.parametrize("is_new_process", [False, True])
async def test_a_ledger_that_lost_its_tail_gets_a_new_epoch(
    home: Home, *, is_new_process: bool
) -> None:
    # Given a mark behind facts that the copy does not have
    watch = home.watch()
    await watch.run_once()
    epoch = await home.plane.log.epoch()
    home.back_up()
    await home.submit()
    await watch.run_once()
    # When the copy takes the ledger's place
    await home.restore()
    watch = home.watch() if is_new_process else watch
    with capture_logs() as logs:
        await watch.run_once()
    # Then the epoch is another one, said once
    changed = await home.plane.log.epoch()
    assert changed != epoch
    told = [line for line in logs if line["event"] == "ledger_tail_lost"]
    assert [(line["epoch"], line["new_epoch"]) for line in told] == [(epoch, changed)]
    await watch.run_once()
    assert await home.plane.log.epoch() == changed


async def test_new_facts_do_not_cover_up_the_loss(home: Home) -> None:
    """The log's end is past the mark again before anybody looks."""
    watch = home.watch()
    epoch = await home.plane.log.epoch()
    home.back_up()
    await home.submit()
    await watch.run_once()
    await home.restore()
    await home.submit()
    await home.submit()
    await watch.run_once()
    assert await home.plane.log.epoch() != epoch


async def test_an_epoch_that_was_left_before_is_not_taken_up_again(home: Home) -> None:
    # Given a copy from before an earlier loss
    watch = home.watch()
    first = await home.plane.log.epoch()
    home.back_up()
    await home.submit()
    await watch.run_once()
    await home.restore()
    await watch.run_once()
    await home.submit()
    await watch.run_once()
    second = await home.plane.log.epoch()
    # When that copy is restored, with the epoch of its time
    await home.restore()
    assert await home.plane.log.epoch() == first
    await home.watch().run_once()
    # Then the ledger gets a third one
    assert await home.plane.log.epoch() not in (first, second)


async def test_a_crash_that_lost_nothing_changes_nothing(home: Home) -> None:
    watch = home.watch()
    await watch.run_once()
    epoch = await home.plane.log.epoch()
    await home.submit()
    await watch.run_once()
    home.server.kill()
    await home.redis.connection_pool.disconnect()
    home.server.start()
    await watch.run_once()
    await home.submit()
    await home.watch().run_once()
    assert await home.plane.log.epoch() == epoch


async def test_a_log_trimmed_past_the_mark_lost_nothing(home: Home) -> None:
    watch = home.watch()
    await watch.run_once()
    epoch = await home.plane.log.epoch()
    await home.submit()
    await home.plane.log.trim(await home.plane.log.end())
    await watch.run_once()
    await watch.run_once()
    assert await home.plane.log.epoch() == epoch


async def test_an_empty_ledger_has_nothing_to_lose(plane: Cell, tmp_path: Path) -> None:
    watch = EpochWatch(plane.log, RandomIds(), MarkFile(tmp_path / "mark.json"))
    await watch.run_once()
    epoch = await plane.log.epoch()
    await watch.run_once()
    await plane.ledger.submit(OWNER, ping())
    await watch.run_once()
    assert await plane.log.epoch() == epoch


async def test_an_epoch_that_somebody_else_changed_is_taken_over(
    plane: Cell, tmp_path: Path
) -> None:
    watch = EpochWatch(plane.log, RandomIds(), MarkFile(tmp_path / "mark.json"))
    await watch.run_once()
    await plane.log.change_epoch("restored")
    await watch.run_once()
    assert await plane.log.epoch() == "restored"
    mark = MarkFile(tmp_path / "mark.json").load()
    assert mark is not None
    assert mark.epoch == "restored"
    assert len(mark.earlier_epochs) == 1


async def test_a_mark_that_cannot_be_kept_is_told_and_keeps_nobody(
    plane: Cell, tmp_path: Path
) -> None:
    (tmp_path / "occupied").write_text("")
    watch = EpochWatch(plane.log, RandomIds(), MarkFile(tmp_path / "occupied" / "mark.json"))
    with capture_logs() as logs:
        await watch.run_once()
    assert [line["event"] for line in logs] == ["mark_unreadable", "mark_not_saved"]


def test_a_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = MarkFile(tmp_path / "upkeep" / "mark.json")
    assert file.load() is None
    mark = Mark("e-2", Position(5, 6), ("e-1",))
    file.save(mark)
    assert file.load() == mark
    assert [path.name for path in (tmp_path / "upkeep").iterdir()] == ["mark.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_a_file_that_holds_no_mark_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mark.json"
    path.write_text(content)
    with pytest.raises(MarkUnreadable):
        MarkFile(path).load()


def test_positions_are_ordered_as_the_log_is() -> None:
    texts = ["0-0", "5-0", "5-1", "10-0", "10-18446744073709551615"]
    positions = [Position.parse(text) for text in texts]
    assert positions == sorted(positions)
    assert [str(position) for position in positions] == texts
    assert Position.parse("5-1").before == Position.parse("5-0")
    assert Position.parse("5-0").before == Position(4, (1 << 64) - 1)
