"""The brain as a process: killed in the middle of its work, started again, and never two."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainUnavailable
from callsheet.runtime.lifecycle import EXIT_FAILED
from tests.support.brains import connected
from tests.support.embedded_brains import SECONDS, EmbeddedBrain, story
from tests.support.eventually import eventually

KILLS = 2


async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """However often, and whatever the brain was doing."""
    brain = EmbeddedBrain(tmp_path).start()
    acknowledged: set[str] = set()
    try:
        for life in range(KILLS):
            # Given a brain that was told things, and is written to from two sides
            async with brain.client() as client:
                await connected(client)
                await _tell(client, life)
                enough = asyncio.Event()
                writers = [
                    asyncio.create_task(_write(client, f"{life}-{side}", acknowledged, enough))
                    for side in range(2)
                ]
                await asyncio.wait_for(enough.wait(), SECONDS)
                # When it is killed in the middle of it
                brain.kill()
                await asyncio.gather(*writers)
            # Then it has all that it said it had, and nothing by halves
            brain.start()
            async with brain.client() as client:
                await connected(client)
                await _has_all(client, life, acknowledged)
        # And it stops when it is asked to.
        assert brain.stop() == 0
    finally:
        brain.kill()


def test_a_second_brain_on_the_same_graph_is_refused_in_one_line(
    server: EmbeddedBrain,
) -> None:
    second = EmbeddedBrain(server.state_dir)
    ended = subprocess.run(
        [sys.executable, "-m", "callsheet.embedded.brain"],
        env=second.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == EXIT_FAILED
    assert "process_refused" in ended.stderr
    assert "ock" in ended.stderr


def test_an_address_that_is_taken_is_refused(server: EmbeddedBrain, tmp_path: Path) -> None:
    second = EmbeddedBrain(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "callsheet.embedded.main", "brain"],
        env={**second.environment, "CALLSHEET_BRAIN_ADDRESS": f"127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == EXIT_FAILED
    assert "address already in use" in ended.stderr


async def _tell(client: Brain, life: int) -> None:
    await client.store_knowledge("default", source="sea", text=f"The sea is cold, {life}")
    await client.cache_task_result(
        "default", key="k", task_id="t", result={"life": life}, ttl=timedelta(minutes=10)
    )


async def _has_all(client: Brain, life: int, acknowledged: set[str]) -> None:
    health = await client.health_check()
    assert health.events == 5 * health.tasks
    assert health.tasks >= len(acknowledged)
    events = [event for task in sorted(acknowledged) for event in story(task)]
    for start in range(0, len(events), 500):
        again = await client.store_task_events(events[start : start + 500])
        assert again.written == 0

    async def found() -> bool:
        return bool(await client.search_similar_tasks("default", "a wet kitten", limit=1))

    await eventually(found)
    (item,) = await client.query_knowledge("default", "temperature of the ocean")
    assert item.text.endswith(str(life))
    assert (await client.get_cached_result("default", key="k")).result == {"life": life}


async def _write(client: Brain, name: str, acknowledged: set[str], enough: asyncio.Event) -> None:
    """Write whole tasks until the brain is away; note those that it acknowledged."""
    for number in range(10_000):
        task = f"{name}-{number}"
        try:
            await client.store_task_events(story(task))
        except BrainUnavailable:
            return
        acknowledged.add(task)
        if number == 30:
            enough.set()
    pytest.fail("the brain was never killed")
