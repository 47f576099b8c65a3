"""Copied tasks are tasks like all others."""

import pytest
from redis.asyncio import Redis

from callsheet.ledger.listing import TaskFilter
from callsheet.ledger.model import TaskState, Usage
from callsheet.ledger.redis_cell import redis_cell as product_cell
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate
from tests.bench.scale_filling import Copier, copier
from tests.support.ledgers import OWNER, Cell, ping, redis_cell


@pytest.fixture
def ledger(redis: Redis, cell: str) -> Cell:
    return redis_cell(RedisConnection(redis), cell)


async def _copier(redis: Redis, ledger: Cell, task_id: str) -> Copier:
    return await copier(product_cell(redis, ledger.keys.cell), task_id)


async def test_a_copy_waits_in_every_list_of_its_original(redis: Redis, ledger: Cell) -> None:
    original = await ledger.ledger.submit(OWNER, ping())
    copies = await (await _copier(redis, ledger, original.id)).copy(60)
    wanted = TaskFilter(project="default", state=TaskState.PENDING)
    page = await ledger.ledger.page(OWNER, wanted, page_size=100, page_token="")
    # Newest first: each copy is a microsecond younger than the one before.
    assert [task.id for task in page.tasks] == [*reversed(copies), original.id]
    assert await ledger.store.count(ledger.keys.ready("system")) == 61


async def test_a_copy_runs_and_ends_like_its_original(redis: Redis, ledger: Cell) -> None:
    original = await ledger.ledger.submit(OWNER, ping())
    (copy,) = await (await _copier(redis, ledger, original.id)).copy(1)
    attempts = ledger.attempts()
    claims = await attempts.claim(
        count=1, queues=("system",), candidates=[Candidate(0, copy)], device=""
    )
    await attempts.succeed(claims.tasks[0], attempt=1, output=b"", usage=Usage())
    task = await ledger.writer.read(copy)
    assert (task.id, task.state, task.sequence) == (copy, TaskState.SUCCEEDED, 3)
    assert await ledger.folded(copy) == task


async def test_copies_made_later_are_younger(redis: Redis, ledger: Cell) -> None:
    original = await ledger.ledger.submit(OWNER, ping())
    copying = await _copier(redis, ledger, original.id)
    copies = [*await copying.copy(3), *await copying.copy(2)]
    looked = await ledger.attempts().claim(count=0, queues=("system",), candidates=(), device="")
    assert [candidate.task_id for candidate in looked.ready] == [original.id, *copies]


async def test_a_copied_end_takes_as_much_memory_as_a_real_one(redis: Redis, ledger: Cell) -> None:
    original = await ledger.ledger.submit(OWNER, ping())
    attempts = ledger.attempts()
    claims = await attempts.claim(
        count=1, queues=("system",), candidates=[Candidate(0, original.id)], device=""
    )
    await attempts.succeed(claims.tasks[0], attempt=1, output=b"", usage=Usage())
    copying = await _copier(redis, ledger, original.id)
    (copy,) = await copying.copy(1)
    command = copying.cell.connection.command
    sizes = [
        await command("MEMORY", "USAGE", ledger.keys.task(each)) for each in (original.id, copy)
    ]
    # Numbers in it are random, and longer or shorter by a byte: memory is given in steps.
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    keys = ledger.keys
    assert set(copying.places) == {
        keys.final,
        keys.project("default"),
        keys.project_type("default", "ping"),
        keys.project_final("default", TaskState.SUCCEEDED),
    }


async def test_after_copying_each_write_is_on_the_disk_again(redis: Redis, ledger: Cell) -> None:
    original = await ledger.ledger.submit(OWNER, ping())
    copying = await _copier(redis, ledger, original.id)
    await copying.copy(1)
    settings = await copying.cell.connection.command("CONFIG", "GET", "appendfsync")
    assert settings == {b"appendfsync": b"always"}
