"""Submissions that join an equal task in flight, and how long that is remembered."""

import asyncio
from collections import Counter
from datetime import timedelta
from types import MappingProxyType
from typing import cast

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from callsheet.ledger.acceptance import Accepted, Outcome, asked_digest
from callsheet.ledger.errors import RequestIdReused
from callsheet.ledger.ids import requested_task_id
from callsheet.ledger.model import Submission, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.reuse import UNTIL_END
from callsheet.upkeep.pruner import Pruner
from tests.support.ledgers import (
    OWNER,
    RETENTION,
    Cell,
    SettableClock,
    memory_cell,
    redis_cell,
)
from tests.support.reusing import accept, image, made, succeed
from tests.support.work import started

HOOK = "https://example.com/hook"
HOUR = timedelta(hours=1)


async def test_an_equal_task_in_flight_is_joined(plane: Cell) -> None:
    task = await made(plane, image(joins=True))
    assert await accept(plane, image(joins=True)) == Accepted(task, Outcome.JOINED)
    _, running = await started(plane, task.id)
    assert await accept(plane, image(joins=True)) == Accepted(running, Outcome.JOINED)


async def test_who_wants_a_result_only_does_not_join(plane: Cell) -> None:
    first = await made(plane, image(joins=True))
    second = await made(plane, image())
    # And what ends first answers the next one
    await succeed(plane, second.id)
    assert (await accept(plane, image())).task.reused_from == second.id
    assert (await plane.writer.read(first.id)).state is TaskState.PENDING


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"callback_url": HOOK}, id="another callback"),
        pytest.param({"priority": 9}, id="more urgent"),
        pytest.param({"delay": HOUR}, id="another delay"),
        pytest.param({"expire_after": HOUR}, id="another time to expire"),
    ],
)
async def test_a_task_that_would_serve_otherwise_is_not_joined(
    plane: Cell, changes: dict[str, object]
) -> None:
    first = await made(plane, image(joins=True))
    await made(plane, image(joins=True)._replace(**changes))
    # And the first one can still be joined by whom it serves
    assert (await accept(plane, image(joins=True))).task.id == first.id


async def test_a_task_that_may_expire_is_joined_only_while_it_runs(plane: Cell) -> None:
    """While it waits, less time is left to it than to who submits now."""
    command = image(joins=True, expire_after=HOUR)
    first = await made(plane, command)
    await made(plane, command)
    await started(plane, first.id)
    assert (await accept(plane, command)).task.id == first.id


async def test_a_task_that_was_asked_to_stop_is_not_joined(plane: Cell) -> None:
    task = await made(plane, image(joins=True))
    await started(plane, task.id)
    await plane.ledger.cancel(OWNER, task.id, reason="")
    await made(plane, image(joins=True))


async def test_a_callback_joins_one_that_tells_the_same(plane: Cell) -> None:
    command = image(joins=True, callback_url=HOOK, metadata={"shot": "1"})
    task = await made(plane, command)
    assert (await accept(plane, command)).task.id == task.id
    assert (await accept(plane, image(joins=True))).task.id == task.id
    await made(plane, command._replace(metadata={"shot": "2"}))


async def test_a_request_that_joined_is_not_another_one(plane: Cell) -> None:
    await made(plane, image(joins=True))
    await accept(plane, image(joins=True, request_id="r-1"))
    with pytest.raises(RequestIdReused):
        await accept(plane, image("bb", request_id="r-1"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"callback_url": HOOK}, id="another callback"),
        pytest.param({"metadata": {"shot": "2"}}, id="other metadata"),
        pytest.param({"priority": 1}, id="another priority"),
        pytest.param({"delay": HOUR}, id="another delay"),
    ],
)
async def test_a_request_that_joined_is_refused_for_anything_else(
    plane: Cell, changes: dict[str, object]
) -> None:
    task = await made(plane, image(joins=True))
    asked = image(joins=True, request_id="r-1", metadata={"shot": "1"})
    assert (await accept(plane, asked)).outcome is Outcome.JOINED
    with pytest.raises(RequestIdReused):
        await accept(plane, asked._replace(**changes))
    assert await accept(plane, asked._replace(trace_parent="00-1")) == Accepted(
        task, Outcome.JOINED
    )


async def test_a_request_that_joined_is_remembered_as_long_as_the_task_is_kept() -> None:
    clock = SettableClock()
    plane = memory_cell(clock)
    task = await made(plane, image(joins=True))
    joins = image(joins=True, request_id="r-1")
    await accept(plane, joins)
    # Given a task that ended two days after it was joined
    clock.advance(timedelta(days=2))
    await succeed(plane, task.id)
    # When its retention has nearly passed, then the request is still answered with it
    clock.advance(RETENTION - HOUR)
    again = await accept(plane, joins)
    assert (again.task.id, again.outcome) == (task.id, Outcome.JOINED)
    # And once it is forgotten, with a task of its own
    clock.advance(2 * HOUR)
    await Pruner(plane.writer).run_once()
    await made(plane, joins)


async def test_a_server_keeps_what_it_remembers_of_a_request_as_long(
    redis: Redis, cell: str
) -> None:
    connection = RedisConnection(redis)
    plane = redis_cell(connection, cell)
    await made(plane, image(joins=True))
    await accept(plane, image(joins=True, request_id="r-1"))
    key = plane.keys.joined(requested_task_id("default", "r-1"))
    left = cast("int", await connection.command("PTTL", key))
    assert RETENTION < timedelta(milliseconds=left) <= RETENTION + UNTIL_END


def test_the_digest_of_what_is_asked_is_the_same_in_every_version() -> None:
    """When this fails, a request that joined before an upgrade is refused after it."""
    submission = Submission(
        project="default",
        task_type="ping",
        spec=b"a",
        queue="system",
        priority=5,
        max_attempts=3,
        time_limit=HOUR,
        expire_after=HOUR,
        metadata=MappingProxyType({"shot": "1", "act": "2"}),
        trace_parent="00-1",
    )
    assert asked_digest(submission) == GOLDEN
    assert asked_digest(replace(submission, metadata={"act": "2", "shot": "1"})) == GOLDEN
    assert asked_digest(replace(submission, priority=6)) != GOLDEN


GOLDEN = "ac66ae498f484c21afeedda2eae7c80dafa1030ca01924e9187763250f6336d1"


async def test_of_equal_submissions_at_once_one_is_made_and_the_others_join(plane: Cell) -> None:
    answers = await asyncio.gather(
        *(accept(plane, image(joins=True, request_id=f"r-{n}")) for n in range(20)),
        plane.ledger.accept_many(OWNER, [image(joins=True) for _ in range(20)]),
    )
    flat = [*answers[:20], *answers[20]]
    accepted = [each for each in flat if isinstance(each, Accepted)]
    assert Counter(each.outcome for each in accepted) == {Outcome.CREATED: 1, Outcome.JOINED: 39}
    assert len({each.task.id for each in accepted}) == 1
