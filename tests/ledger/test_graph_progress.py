"""What is remembered of the brain moves in one step, of one holder, and may be repeated."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from callsheet.ledger import graph_progress
from callsheet.ledger.graph_progress import ROLE, FactKey, Gap, Progress
from tests.support.sinks import GraphCell, graph_cell

HELD = timedelta(minutes=1)


@pytest.fixture
async def held(redis: Redis, cell: str) -> GraphCell:
    """A cell whose role is held by sink-1."""
    made = graph_cell(redis, cell)
    assert await made.plane.registry.hold(ROLE, "sink-1", duration=HELD)
    return made


async def begun(cell: GraphCell, position: str = "5-0") -> Progress:
    """Return a first step's end."""
    return Progress(position=position, epoch=await cell.plane.log.epoch())


async def test_nothing_is_remembered_at_first(held: GraphCell) -> None:
    assert await held.progress.read() == Progress()
    assert await held.progress.dead(limit=10) == []


async def test_a_step_is_remembered_whole_and_may_be_repeated(held: GraphCell) -> None:
    first = (await begun(held))._replace(gap=Gap(7, None), heal=9)
    dead = [(FactKey("e", "t1", 3), "it is poison")]
    for _ in range(2):
        assert await held.progress.advance(Progress(), first, holder="sink-1", dead=dead)
        assert await held.progress.read() == first
    (fact,) = await held.progress.dead(limit=10)
    assert (str(fact.key), fact.reason) == ("e/t1/3", "it is poison")
    later = first._replace(position="6-0", gap=Gap(7, 42))
    assert await held.progress.advance(first, later, holder="sink-1")
    assert await held.progress.read() == later
    last = later._replace(gap=None)
    assert await held.progress.advance(later, last, holder="sink-1")
    assert await held.progress.read() == last


async def test_who_has_not_the_role_the_epoch_or_the_place_moves_nothing(held: GraphCell) -> None:
    first = await begun(held)
    assert await held.progress.advance(Progress(), first, holder="sink-1")
    further = first._replace(position="9-0")
    assert not await held.progress.advance(first, further, holder="sink-2")
    assert not await held.progress.advance(
        first, further._replace(epoch="another"), holder="sink-1"
    )
    elsewhere = first._replace(position="8-0")
    assert not await held.progress.advance(elsewhere, further, holder="sink-1")
    assert await held.progress.read() == first


async def test_dead_facts_have_a_limit_and_are_forgotten_by_name(
    held: GraphCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_progress, "MOST_DEAD", 3)
    first = await begun(held)
    keys = [FactKey("e", "t1", sequence) for sequence in range(1, 6)]
    dead = [(key, "why not") for key in keys]
    assert await held.progress.advance(Progress(), first, holder="sink-1", dead=dead)
    assert await held.progress.count_dead() == 3
    assert len(await held.progress.dead(limit=2)) == 2
    assert await held.progress.forget_dead(keys[:2]) == 2
    assert await held.progress.forget_dead([]) == 0
    assert [each.key for each in await held.progress.dead(limit=10)] == [keys[2]]


async def test_when_the_brain_was_told_of_a_moment_is_kept_for_a_while(
    held: GraphCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_progress, "MOST_STEPS", 3)
    steps = [await begun(held, position) for position in ("0-0", "5-0", "7-2", "7-9", "9-0")]
    before = Progress()
    for step in steps[:4]:
        assert await held.progress.advance(before, step, holder="sink-1")
        before = step
    told = [await held.progress.told_time(moment * 1000) for moment in (6, 7, 8)]
    assert told[0] == told[1]
    assert told[0] is not None
    # Nothing after it was told
    assert told[2] is None
    # Before the first step that is kept, nobody knows any more
    assert await held.progress.told_time(4_000) is None
    # And a repeated step keeps the time of the first
    assert await held.progress.advance(steps[2], steps[3], holder="sink-1")
    assert await held.progress.told_time(7_000) == told[1]


async def test_what_is_behind_the_cursor_while_there_is_a_gap_was_not_told_until_it_is_closed(
    held: GraphCell,
) -> None:
    first = await begun(held, "1-0")
    resumed = first._replace(position="8-0", gap=Gap(2_000, None))
    assert await held.progress.advance(Progress(), first, holder="sink-1")
    assert await held.progress.advance(first, resumed, holder="sink-1")
    assert await held.progress.told_time(5_000) is None
    closed = resumed._replace(gap=None)
    assert await held.progress.advance(resumed, closed, holder="sink-1")
    assert await held.progress.told_time(5_000) is not None


async def test_times_of_another_epoch_are_forgotten(held: GraphCell) -> None:
    first = await begun(held, "1-0")
    second = first._replace(position="9-0")
    assert await held.progress.advance(Progress(), first, holder="sink-1")
    assert await held.progress.advance(first, second, holder="sink-1")
    assert await held.progress.told_time(5_000) is not None
    await held.plane.log.change_epoch("restored")
    moved = second._replace(position="3-0", epoch="restored")
    assert await held.progress.advance(second, moved, holder="sink-1")
    assert await held.progress.told_time(2_000) is None


async def test_why_a_fact_was_refused_is_found_by_its_name(held: GraphCell) -> None:
    key = FactKey("e", "t1", 3)
    dead = [(key, "it is poison")]
    assert await held.progress.advance(Progress(), await begun(held), holder="sink-1", dead=dead)
    assert await held.progress.refusal(key) == "it is poison"
    assert await held.progress.refusal(key._replace(sequence=4)) == ""
