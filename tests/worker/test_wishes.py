"""What operators wish of a worker: it pauses, goes on, or drains and ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.model import TaskState
from callsheet.ledger.overview import Overview
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.registry import Wish
from callsheet.v1.operations_service_pb2 import Worker
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.processes import SECONDS, Room, room
from tests.worker.test_worker import PATIENT, environment, running


@pytest.fixture
def plane(redis: Redis, cell: str) -> Cell:
    return redis_cell(RedisConnection(redis, patience=PATIENT), cell)


@pytest.fixture
def worker(valkey_server: EmbeddedValkey, cell: str, tmp_path: Path) -> Iterator[Room]:
    with room("worker", environment(valkey_server, cell, tmp_path)) as started:
        yield started


async def seen(plane: Cell) -> Worker:
    """Return the one worker as it was last heard of."""
    overview = Overview(plane.store, plane.registry, plane.keys, plane.catalog)
    (found,) = await overview.workers(OWNER)
    return found


async def wished(plane: Cell, wish: Wish | None) -> None:
    """Wish something of the worker, and return when it says that it has heard it."""
    name = (await seen(plane)).id
    assert await plane.registry.wish(name, wish)

    async def is_heard() -> bool:
        worker = await seen(plane)
        heard = (worker.paused, worker.draining)
        return heard == (wish is Wish.PAUSE, wish is Wish.DRAIN)

    await eventually(is_heard)


@pytest.mark.usefixtures("worker")
async def test_a_paused_worker_claims_nothing_until_it_is_resumed(plane: Cell) -> None:
    going_on = await running(plane, seconds=1)
    await wished(plane, Wish.PAUSE)
    waiting = await plane.ledger.submit(OWNER, ping())
    # What it runs ends, and what waits is left alone
    assert (await plane.final(going_on.id)).state is TaskState.SUCCEEDED
    assert (await plane.writer.read(waiting.id)).sequence == 1
    await wished(plane, None)
    assert (await plane.final(waiting.id)).state is TaskState.SUCCEEDED


async def test_a_drained_worker_lets_what_it_runs_end_and_ends(plane: Cell, worker: Room) -> None:
    going_on = await running(plane, seconds=2)
    await wished(plane, Wish.DRAIN)
    waiting = await plane.ledger.submit(OWNER, ping())
    assert (await plane.final(going_on.id)).state is TaskState.SUCCEEDED
    assert worker.process.wait(SECONDS) == 0
    assert (await plane.writer.read(waiting.id)).sequence == 1
    assert await plane.registry.workers(seen_within=PATIENT) == []


@pytest.mark.usefixtures("worker")
async def test_a_worker_that_drains_can_be_resumed(plane: Cell) -> None:
    going_on = await running(plane)
    await wished(plane, Wish.DRAIN)
    await wished(plane, None)
    await plane.ledger.cancel(OWNER, going_on.id, reason="")
    after = await plane.ledger.submit(OWNER, ping())
    assert (await plane.final(after.id)).state is TaskState.SUCCEEDED
