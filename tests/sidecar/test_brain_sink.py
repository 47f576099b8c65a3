"""Every fact reaches the brain, once and in order, whatever happens to either side."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.support.brains import TOKEN, SmallBrainProcess
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER
from tests.support.sinks import GraphCell, graph_cell, sink


@pytest.fixture(scope="module")
def brain_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallBrainProcess]:
    process = SmallBrainProcess(tmp_path_factory.mktemp("brain"), token=TOKEN)
    asyncio.run(process.start())
    yield process
    process.kill()


@pytest.fixture
def brain(brain_process: SmallBrainProcess) -> SmallBrainProcess:
    """A brain that knows nothing and behaves."""
    brain_process.forget()
    return brain_process


@pytest.fixture
def cell_of_graph(redis: Redis, cell: str) -> GraphCell:
    return graph_cell(redis, cell)


def told(brain: SmallBrainProcess, task_id: str) -> list[dict[str, Any]]:
    """Return what the brain knows of the task, in the order it was told."""
    return [fact for fact in brain.facts() if fact["task_id"] == task_id]


async def test_every_status_change_becomes_a_graph_write(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        task = await cell.failing(await cell.submitted("a lighthouse at dusk"))
        cancelled = await cell.plane.ledger.cancel(OWNER, task.id, reason="no more")
        done = await cell.succeeded("a ship")
        await cell.caught_up()
    events = [(fact["sequence"], fact["event"], fact["status"]) for fact in told(brain, task.id)]
    assert events == [
        (1, "submitted", "queued"),
        (2, "started", "processing"),
        (3, "retrying", "queued"),
        (4, "cancelled", "cancelled"),
    ]
    assert cancelled.sequence == 4
    first, started, retrying, _ = told(brain, task.id)
    assert first["text"] == "a lighthouse at dusk"
    assert first["epoch"] == await cell.plane.log.epoch()
    assert (started["worker"], started["device"], started["attempt"]) == ("worker-1", "cuda:0", 1)
    assert retrying["failure"] == {
        "reason": "OUT_OF_MEMORY",
        "message": "no room for it",
        "retryable": True,
    }
    last = told(brain, done.id)[-1]
    assert last["usage"] == {"run_seconds": 1.5, "tokens": 7}
    assert last["artifacts"][0]["uri"] == "https://media.example/a.png"
    assert last["model"] == {"name": "tiny-random", "revision": "abc"}


async def test_what_happened_while_no_sink_ran_is_told_by_the_next_one(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    early = [await cell.cancelled(f"early {number}") for number in range(5)]
    async with sink(cell, brain):
        await cell.caught_up()
    late = [await cell.cancelled(f"late {number}") for number in range(5)]
    async with sink(cell, brain, holder="sink-2"):
        await cell.caught_up()
    assert len(brain.facts()) == 20
    for task in (*early, *late):
        assert [fact["sequence"] for fact in told(brain, task.id)] == [1, 2]
    # Nothing was told twice: the cursor was where the first one stopped.
    assert sum(count for _, count in brain.calls()) == 20


async def test_a_brain_killed_in_mid_flow_has_everything_once(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        tasks = [await cell.cancelled(f"number {number}") for number in range(40)]
        brain.kill()
        tasks += [await cell.cancelled(f"number {number}") for number in range(40)]
        await brain.start()
        await cell.caught_up()
    keys = [(fact["task_id"], fact["sequence"]) for fact in brain.facts()]
    assert len(keys) == len(set(keys)) == 160
    assert {task_id for task_id, _ in keys} == {task.id for task in tasks}


async def test_a_brain_that_hangs_costs_nothing_but_delay(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        await cell.cancelled("before")
        await cell.caught_up()
        with brain.frozen():
            for number in range(10):
                await cell.cancelled(f"meanwhile {number}")
        await cell.caught_up()
    keys = [(fact["task_id"], fact["sequence"]) for fact in brain.facts()]
    assert len(keys) == len(set(keys)) == 22


async def test_a_poisonous_fact_is_found_and_passed_over(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    brain.feels(refuse="arsenic")
    good = [await cell.cancelled(f"number {number}") for number in range(9)]
    poison = await cell.cancelled("a cup of arsenic")
    good += [await cell.cancelled(f"number {number}") for number in range(9)]
    with capture_logs() as logs:
        async with sink(cell, brain):
            await cell.caught_up()
    dead = await cell.progress.dead(limit=10)
    assert [(each.key.task_id, each.key.sequence) for each in dead] == [(poison.id, 1)]
    assert "it is poison" in dead[0].reason
    assert [line["task_id"] for line in logs if line["event"] == "graph_fact_dead"] == [poison.id]
    # The rest is there, the poisoned task's own later fact too.
    assert len(brain.facts()) == 2 * len(good) + 1
    # Once the brain is mended, the next sink tells it.
    brain.feels()
    async with sink(cell, brain, holder="sink-2"):
        await brain.knows(2 * len(good) + 2)
        await eventually(lambda: _none_dead(cell))


async def _none_dead(cell: GraphCell) -> bool:
    return await cell.progress.count_dead() == 0


async def test_a_brain_that_refuses_everything_is_waited_for(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    brain.feels(fail=True)
    for number in range(10):
        await cell.cancelled(f"number {number}")

    async def asked(times: int) -> bool:
        return len(brain.calls()) >= times

    async with sink(cell, brain):
        await eventually(lambda: asked(20))
        assert await cell.progress.count_dead() == 0
        brain.feels()
        await cell.caught_up()
    assert len(brain.facts()) == 20
    assert await cell.progress.count_dead() == 0


async def test_facts_older_than_the_log_are_found_by_the_list_of_final_tasks(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        before = await cell.cancelled("before the gap")
        await cell.caught_up()
    # Given a log that kept nothing for a brain that was away
    alive = await cell.submitted("alive during the gap")
    inside = [await cell.succeeded(f"inside {number}") for number in range(70)]
    await cell.plane.log.trim(await cell.plane.log.end())
    last = await cell.cancelled("after the gap")
    # Then the next sink tells what ended in the gap, and of those that live as they go on
    async with sink(cell, brain):
        await cell.caught_up()
        assert told(brain, alive.id) == []
        await cell.plane.ledger.cancel(OWNER, alive.id, reason="")
        await cell.caught_up()
    assert [fact["sequence"] for fact in told(brain, alive.id)] == [1, 2]
    for task, count in [(before, 2), (last, 2), *((each, 3) for each in inside)]:
        assert [fact["sequence"] for fact in told(brain, task.id)] == list(range(1, count + 1))
    assert (await cell.progress.read()).gap is None


async def test_a_brain_that_comes_to_an_old_plane_is_told_of_all_that_is_kept(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    old = [await cell.cancelled(f"old {number}") for number in range(3)]
    await cell.plane.log.trim(await cell.plane.log.end())
    await cell.submitted("new")
    async with sink(cell, brain):
        await cell.caught_up()
    assert len(brain.facts()) == 2 * len(old) + 1


async def test_another_epoch_is_told_of_and_goes_into_the_keys(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        first = await cell.submitted("of the first epoch")
        await cell.caught_up()
    before = await cell.plane.log.epoch()
    await cell.plane.log.change_epoch("another")
    with capture_logs() as logs:
        async with sink(cell, brain):
            await cell.plane.ledger.cancel(OWNER, first.id, reason="")
            await cell.caught_up()
    assert [fact["epoch"] for fact in told(brain, first.id)] == [before, "another"]
    assert "graph_epoch_changed" in [line["event"] for line in logs]


async def test_two_sinks_never_tell_at_the_same_time(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain, holder="sink-1"), sink(cell, brain, holder="sink-2"):
        for number in range(20):
            await cell.cancelled(f"number {number}")
        await cell.caught_up()
    assert sum(count for _, count in brain.calls()) == 40


async def test_a_sink_that_lost_its_role_moves_nothing(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    async with sink(cell, brain):
        await cell.cancelled("told")
        await cell.caught_up()
    reached = await cell.progress.read()
    assert not await cell.progress.advance(
        reached, reached._replace(position="1-0"), holder="sink-1"
    )
    assert await cell.progress.read() == reached


async def test_a_brain_without_the_batch_is_told_one_by_one_and_what_each_was_about(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    brain.feels(tools=["store_task_result"])
    await brain.restart()
    async with sink(cell, brain):
        done = await cell.succeeded("a lamp")
        await cell.caught_up()
    (fact,) = told(brain, done.id)
    assert (fact["event"], fact["text"]) == ("succeeded", "a lamp")
    assert fact["spec"]["prompt"] == "a lamp"
    assert fact["model"]["revision"] == "abc"


async def test_a_fact_that_kills_the_brain_is_passed_over_in_the_end(
    cell_of_graph: GraphCell, brain: SmallBrainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows when the batch has shrunk to it alone."""
    cell = cell_of_graph
    monkeypatch.setattr("callsheet.sidecar.brain_teller.UNPROVEN_REFUSALS", 1)
    brain.feels(kill="cyanide")
    good = await cell.cancelled("a cup of tea")
    poison = await cell.submitted("a cup of cyanide")
    async with sink(cell, brain):
        nursing = asyncio.create_task(_nursed(brain))
        await cell.caught_up()
        nursing.cancel()
    assert [each.key.task_id for each in await cell.progress.dead(limit=5)] == [poison.id]
    assert len(told(brain, good.id)) == 2


async def test_early_facts_that_were_refused_at_first_are_told_again_with_the_later_one(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    # Given a task that the brain never heard of, and a log that begins after it
    alive = await cell.submitted("alive during the gap")
    await cell.plane.log.trim(await cell.plane.log.end())
    async with sink(cell, brain):
        await cell.caught_up()
        # When the brain fails at its next fact once
        brain.feels(fail=True)
        await cell.plane.ledger.cancel(OWNER, alive.id, reason="")
        await _asked(brain, times=1)
        brain.feels()
        await cell.caught_up()
    assert [fact["sequence"] for fact in told(brain, alive.id)] == [1, 2]


async def test_two_refused_facts_in_one_page_of_a_gap_are_both_passed_over(
    cell_of_graph: GraphCell, brain: SmallBrainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in two parts of it; what follows the gap is told meanwhile."""
    monkeypatch.setattr("callsheet.sidecar.brain_sink.BATCH", 5)
    cell = cell_of_graph
    brain.feels(refuse="arsenic")
    poison = [await cell.cancelled("arsenic")]
    good = [await cell.cancelled(f"number {number}") for number in range(5)]
    poison.append(await cell.cancelled("more arsenic"))
    await cell.plane.log.trim(await cell.plane.log.end())
    after = await cell.cancelled("after the gap")
    async with sink(cell, brain):
        await cell.caught_up()
    dead = {each.key.task_id for each in await cell.progress.dead(limit=10)}
    assert dead == {task.id for task in poison}
    for task in (*good, after):
        assert [fact["sequence"] for fact in told(brain, task.id)] == [1, 2]


async def test_a_brain_that_fails_at_everything_kills_no_fact(
    cell_of_graph: GraphCell, brain: SmallBrainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.sidecar.brain_teller.UNPROVEN_REFUSALS", 1)
    cell = cell_of_graph
    brain.feels(fail=True, reason="INTERNAL")
    for number in range(5):
        await cell.cancelled(f"number {number}")
    async with sink(cell, brain):
        await _asked(brain, times=20)
        brain.feels()
        await cell.caught_up()
    assert len(brain.facts()) == 10
    assert await cell.progress.count_dead() == 0


async def test_a_fact_at_which_the_brain_fails_is_dead_when_others_are_taken(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    """The last one, so that only what follows shows that the brain is well."""
    cell = cell_of_graph
    brain.feels(refuse="arsenic", reason="INTERNAL")
    await cell.cancelled("a cup of tea")
    poison = await cell.submitted("a cup of arsenic")
    async with sink(cell, brain):
        await brain.knows(2)
        await _asked(brain, times=2)
        assert await cell.progress.count_dead() == 0
        await cell.cancelled("a cup of coffee")
        await cell.caught_up()
    assert [each.key.task_id for each in await cell.progress.dead(limit=5)] == [poison.id]
    assert len(brain.facts()) == 4


async def test_dead_facts_are_tried_again_whenever_the_brain_comes_back(
    cell_of_graph: GraphCell, brain: SmallBrainProcess
) -> None:
    cell = cell_of_graph
    brain.feels(refuse="arsenic")
    poison = await cell.submitted("a cup of arsenic")
    await cell.cancelled("a cup of tea")
    async with sink(cell, brain):
        await cell.caught_up()
        assert await cell.progress.count_dead() == 1
        brain.feels()
        await brain.restart()
        await eventually(lambda: _none_dead(cell))
    assert [fact["sequence"] for fact in told(brain, poison.id)] == [1]


async def _asked(brain: SmallBrainProcess, *, times: int) -> None:
    """Wait until it was sent so many more calls."""
    before = len(brain.calls())

    async def were_sent() -> bool:
        return len(brain.calls()) >= before + times

    await eventually(were_sent)


async def _nursed(brain: SmallBrainProcess) -> None:
    """Start the brain again whenever it dies."""
    while True:
        if not brain.is_alive:
            await brain.start()
        await asyncio.sleep(0.02)
