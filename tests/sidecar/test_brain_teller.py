"""Results go into the brain's cache for what is left of their time, and hold up no facts."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from callsheet.brain.brain import Brain
from callsheet.brain.records import CachedResult
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.instants import instant
from callsheet.sidecar.brain_facts import fact_of
from callsheet.sidecar.brain_source import Fact
from callsheet.sidecar.brain_teller import Teller
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1 import task_event_pb2
from tests.support.brains import TOKEN, SmallBrainProcess, client_of, connected

NOON = 1_803_902_400_000_000
TTL = timedelta(hours=1)
DIGEST = b"\x01" * 32


@pytest.fixture(scope="module")
def brain_process(tmp_path_factory: pytest.TempPathFactory) -> SmallBrainProcess:
    return SmallBrainProcess(tmp_path_factory.mktemp("brain"), token=TOKEN)


@pytest.fixture
async def small_brain(brain_process: SmallBrainProcess) -> AsyncIterator[SmallBrainProcess]:
    brain_process.forget()
    await brain_process.start()
    yield brain_process
    brain_process.kill()


@pytest.fixture
async def brain(small_brain: SmallBrainProcess) -> AsyncIterator[Brain]:
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        yield brain


def success(*, reused_from: str = "") -> Fact:
    """Return a success at noon whose result may be used again for an hour."""
    submitted = task_event_pb2.TaskSubmitted(project="film")
    submitted.reuse.digest = DIGEST
    submitted.reuse.ttl.CopyFrom(Duration(seconds=3600))
    output = AnyMessage()
    output.Pack(PingOutput(echo="hello"))
    succeeded = task_event_pb2.TaskSucceeded(output=output, reused_from=reused_from)
    record = EventRecord(version=1, sequence=3, time=NOON, task_succeeded=succeeded)
    return Fact(fact_of(record, submitted, task_id="t1", epoch="e1"), record, submitted)


async def cached(brain: Brain, fact: Fact, *, late: timedelta) -> CachedResult:
    """Return what the brain's cache has after the fact was told so late."""
    await Teller(brain, now=lambda: instant(NOON) + late).cache([fact])
    return await brain.get_cached_result("film", key=DIGEST.hex())


async def test_a_result_is_cached_while_its_time_is_not_over(brain: Brain) -> None:
    assert not (await cached(brain, success(), late=TTL)).found
    assert not (await cached(brain, success(), late=24 * TTL)).found
    assert (await cached(brain, success(), late=TTL / 2)).result["echo"] == "hello"


async def test_a_result_that_was_used_again_is_not_cached_anew(brain: Brain) -> None:
    """Otherwise it would never grow old."""
    fact = success(reused_from="earlier")
    assert not (await cached(brain, fact, late=timedelta(0))).found


async def test_a_cache_that_does_not_answer_is_given_up_soon(
    brain: Brain, small_brain: SmallBrainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.sidecar.brain_teller._CACHE_LIMIT", timedelta(milliseconds=50))
    small_brain.feels(hang_tool="cache_task_result")
    async with asyncio.timeout(10):  # the client itself would wait for longer
        found = await cached(brain, success(), late=timedelta(0))
    assert not found.found
