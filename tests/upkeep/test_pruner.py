"""Final tasks are forgotten after their retention, and the log behind its slowest reader."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from callsheet.ledger.errors import CursorLost
from callsheet.ledger.index import Move, Op
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import NO_TIME, Task
from callsheet.ledger.position import Position
from callsheet.ledger.store import Commit
from callsheet.upkeep import pruner
from callsheet.upkeep.due import ROUND
from callsheet.upkeep.log_trimmer import FULL, KEPT, Kept, LogTrimmer
from callsheet.upkeep.pruner import Pruner
from tests.support.ledgers import OWNER, Cell, memory_cell, ping
from tests.support.upkeeping import meanwhile


async def ended(plane: Cell, *, request_id: str = "") -> Task:
    """Return a final task past its retention."""
    task = await plane.ledger.submit(OWNER, ping(request_id=request_id))
    task = await plane.ledger.cancel(OWNER, task.id, reason="")
    due = (Move(Op.ADD, plane.keys.final, task.id, 0),)
    await plane.store.commit([Commit(task.id, expected=task.sequence, moves=due)])
    return task


async def keys_that_name(plane: Cell, task_id: str) -> int:
    """Return in how many indexes the task still stands."""
    project = plane.keys.project("default")
    places = (plane.keys.final, project, f"{project}:type:ping", f"{project}:cancelled")
    ranks = [await plane.store.rank(place, task_id) for place in places]
    return len([rank for rank in ranks if rank is not None])


async def test_a_task_past_its_retention_is_gone_from_everywhere(plane: Cell) -> None:
    task = await ended(plane)
    assert await keys_that_name(plane, task.id) == 4
    await Pruner(plane.writer).run_once()
    assert await plane.store.read([task.id]) == [None]
    assert await plane.store.facts(task.id, after=0, limit=10) == []
    assert await keys_that_name(plane, task.id) == 0


async def test_a_task_within_its_retention_stays(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    task = await plane.ledger.cancel(OWNER, task.id, reason="")
    await Pruner(plane.writer).run_once()
    assert await plane.writer.read(task.id) == task


async def test_a_task_that_lives_is_never_pruned(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    due = (Move(Op.ADD, plane.keys.final, task.id, 0),)
    await plane.store.commit([Commit(task.id, expected=task.sequence, moves=due)])
    await Pruner(plane.writer).run_once()
    assert await plane.writer.read(task.id) == task
    assert await plane.store.count(plane.keys.final) == 0


async def test_a_new_task_of_a_pruned_ones_request_is_not_pruned_in_its_place(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await ended(plane, request_id="r")
    new = list[Task]()

    # Given a pruner that has looked at a task, and then was slow, while another one pruned it and
    # the same request made a new task, with the same id and at the same sequence
    async def happen() -> None:
        await Pruner(plane.writer).run_once()
        task = await plane.ledger.submit(OWNER, ping(request_id="r"))
        new.append(await plane.ledger.cancel(OWNER, task.id, reason=""))

    meanwhile(plane, monkeypatch, happen)
    # When the slow one goes on
    await Pruner(plane.writer).run_once()
    # Then the new task stays
    assert (new[0].id, new[0].sequence) == (old.id, old.sequence)
    assert await plane.writer.read(old.id) == new[0]


async def test_a_backlog_is_pruned_round_by_round(plane: Cell) -> None:
    for _ in range(ROUND + 1):
        await ended(plane)
    duty = Pruner(plane.writer)
    assert await duty.run_once() == pruner.BACKLOG_REST
    assert await plane.store.count(plane.keys.final) == 1
    assert await duty.run_once() == pruner.PERIOD
    assert await plane.store.count(plane.keys.project("default")) == 0


async def positions(plane: Cell, count: int) -> list[str]:
    """Submit tasks, and return the positions of their facts."""
    await plane.ledger.submit_many(OWNER, [ping()] * count)
    entries = await plane.log.after(LOG_START, limit=count, timeout=NO_TIME)
    return [entry.position for entry in entries]


async def test_the_log_is_trimmed_behind_its_slowest_reader(plane: Cell) -> None:
    placed = await positions(plane, 5)
    await plane.log.save_cursor("slow", placed[1])
    await plane.log.save_cursor("quick", placed[4])
    await LogTrimmer(plane.log, plane.store).run_once()
    left = await plane.log.after(placed[1], limit=10, timeout=NO_TIME)
    assert [entry.position for entry in left] == placed[2:]
    with pytest.raises(CursorLost):
        await plane.log.after(placed[0], limit=10, timeout=NO_TIME)


async def test_a_log_without_a_durable_reader_stays_whole(plane: Cell) -> None:
    placed = await positions(plane, 3)
    await LogTrimmer(plane.log, plane.store).run_once()
    left = await plane.log.after(LOG_START, limit=10, timeout=NO_TIME)
    assert [entry.position for entry in left] == placed


@pytest.mark.parametrize("cursor", ["99999999999999-0", "nonsense"])
async def test_a_cursor_that_cannot_be_trims_nothing(plane: Cell, cursor: str) -> None:
    """A log that lost its tail still holds what its reader has not read."""
    placed = await positions(plane, 3)
    await plane.log.save_cursor("other", placed[2])
    await plane.log.save_cursor("lost", cursor)
    with capture_logs() as logs:
        await LogTrimmer(plane.log, plane.store).run_once()
    assert logs[0]["event"] in ("log_cursor_ahead", "log_cursor_unreadable")
    assert len(await plane.log.after(LOG_START, limit=10, timeout=NO_TIME)) == 3


async def test_a_reader_far_behind_is_told_of(plane: Cell) -> None:
    await positions(plane, 1)
    await plane.log.save_cursor("stuck", LOG_START)
    with capture_logs() as logs:
        assert await LogTrimmer(plane.log, plane.store).run_once() > timedelta(0)
    assert [line["reader"] for line in logs] == ["stuck"]


async def test_a_reader_that_finds_elsewhere_what_it_missed_holds_only_so_much(
    plane: Cell,
) -> None:
    placed = await positions(plane, 5)
    await plane.log.save_cursor("sure", placed[3])
    await plane.log.save_cursor("giving", placed[0])
    # Given as many entries as are kept for it, it is waited for
    await LogTrimmer(plane.log, plane.store, giving_way={"giving": 5}).run_once()
    assert len(await plane.log.after(placed[0], limit=10, timeout=NO_TIME)) == 4
    # With one more it is not, and learns of it when it comes back
    await plane.ledger.submit(OWNER, ping())
    with capture_logs() as logs:
        await LogTrimmer(plane.log, plane.store, giving_way={"giving": 5}).run_once()
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "log_reader_given_up"
    ]
    with pytest.raises(CursorLost):
        await plane.log.after(placed[0], limit=10, timeout=NO_TIME)


async def test_a_store_that_fills_up_keeps_nothing_for_readers_that_give_way() -> None:
    plane = memory_cell(limit_bytes=10_000)
    placed = await positions(plane, 3)
    await plane.log.save_cursor("sure", placed[2])
    await plane.log.save_cursor("giving", placed[0])
    trimmer = LogTrimmer(plane.log, plane.store, giving_way={"giving": 1_000})
    await trimmer.run_once()
    assert await plane.log.length() == 3
    while (await plane.store.room())[0] < FULL * 10_000:
        await plane.ledger.submit(OWNER, ping("x" * 200))
    await trimmer.run_once()
    with pytest.raises(CursorLost):
        await plane.log.after(placed[0], limit=10, timeout=NO_TIME)


async def test_the_end_of_the_log_is_kept_for_watchers(plane: Cell) -> None:
    placed = await positions(plane, 5)
    await plane.log.save_cursor("quick", placed[4])
    await LogTrimmer(plane.log, plane.store, kept=KEPT).run_once()
    assert await plane.log.length() == 5


def test_the_end_of_the_log_that_is_kept_is_no_longer_than_it_may_be() -> None:
    kept = Kept(timedelta(minutes=5), 100)
    end = Position(1_000_000, 7)
    # Few entries: by time; many: as much of the time as has so many, if they are spread evenly
    assert kept.begins(Position(0, 0), end, length=100) == Position(700_000, 0)
    assert kept.begins(Position(800_000, 0), end, length=200) == Position(900_000, 0)
    assert kept.begins(Position(0, 0), Position(5, 0), length=1) == Position(0, 0)
