"""A real sidecar and the real embedded brain, each killed in mid-flow: nothing lost or double."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.brains import connected
from tests.support.embedded_brains import TOKEN, EmbeddedBrain
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER
from tests.support.processes import room
from tests.support.sidecars import sidecar_environment
from tests.support.sinks import GraphCell, graph_cell


@pytest.fixture
def brain(tmp_path: Path) -> Iterator[EmbeddedBrain]:
    process = EmbeddedBrain(tmp_path / "brain")
    process.start()
    yield process
    process.kill()


async def stories(cell: GraphCell, count: int) -> int:
    """Let tasks live through failure, success and cancellation; return how many facts they have."""
    facts = 0
    for number in range(count):
        task = await cell.failing(await cell.submitted(f"a lighthouse, take {number}"))
        ended = await cell.plane.ledger.cancel(OWNER, task.id, reason="")
        done = await cell.succeeded(f"a harbour, take {number}")
        facts += ended.sequence + done.sequence
    return facts


async def test_whoever_is_killed_every_fact_is_in_the_graph_once(
    redis: Redis,
    valkey_server: EmbeddedValkey,
    cell: str,
    tmp_path: Path,
    brain: EmbeddedBrain,
) -> None:
    graph = graph_cell(redis, cell)
    environment = {
        **sidecar_environment(valkey_server.url, cell, tmp_path),
        "BRAIN_WS_URL": brain.url,
        "CALLSHEET_BRAIN_TOKEN": TOKEN,
    }
    with room("sidecar", environment) as first:
        facts = await stories(graph, 10)
        first.kill()
    facts += await stories(graph, 10)
    with room("sidecar", environment):
        facts += await stories(graph, 5)
        brain.kill()
        facts += await stories(graph, 10)
        await asyncio.to_thread(brain.start)
        facts += await stories(graph, 5)
        await graph.caught_up()
        async with brain.client() as client:
            await connected(client)
            health = await client.health_check()
            assert (health.tasks, health.events, health.epoch_count) == (80, facts, 1)
            tasks = await client.get_task_history("default", limit=100)
            assert sorted(task.status for task in tasks) == ["cancelled"] * 40 + ["completed"] * 40

            async def found() -> bool:
                near = await client.search_similar_tasks("default", "a port by the sea", limit=5)
                return bool(near) and all("harbour" in task.text for task in near)

            await eventually(found)
    assert await graph.progress.count_dead() == 0
