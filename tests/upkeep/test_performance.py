"""How tasks fared: each fact counted once, in its bucket, whatever is restarted or trimmed."""

from datetime import timedelta
from typing import cast

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import ProjectNotFound, RoleMissing
from callsheet.ledger.model import NO_TIME, Failure, FailureReason
from callsheet.ledger.performance import DAY, HOUR, Counters, Performance, Report, Tally
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.upkeep.performance_tally import FACTS, PerformanceTally
from callsheet.v1.operations_service_pb2 import Worker, WorkerSlots
from tests.support.ledgers import OWNER, STRANGER, Cell, ping
from tests.support.work import started, succeeded, tossed

OPERATOR = Principal("3", frozenset({"default"}), frozenset({Role.OPERATE}))


@pytest.fixture
def connection(redis: Redis) -> RedisConnection:
    return RedisConnection(redis)


def tally_of(plane: Cell, connection: RedisConnection) -> PerformanceTally:
    return PerformanceTally(
        plane.store,
        plane.log,
        plane.registry,
        Counters(connection, plane.keys),
        keys=plane.keys,
        catalog=plane.catalog,
    )


async def counted(plane: Cell, connection: RedisConnection) -> PerformanceTally:
    """Count all that the log tells; return who did."""
    tally = tally_of(plane, connection)
    while await tally.run_once() == NO_TIME:
        pass
    return tally


async def report(
    plane: Cell, connection: RedisConnection, *, project: str = "", window: object = HOUR
) -> Report:
    performance = Performance(connection, plane.keys, plane.catalog)
    return await performance.report(OPERATOR, project=project, window=window)  # pyright: ignore[reportArgumentType]  # one of the two windows


async def have_tasks(plane: Cell) -> None:
    """Have tasks that fare differently."""
    for _ in range(2):
        await succeeded(plane, (await plane.ledger.submit(OWNER, ping())).id)
    cancelled = await plane.ledger.submit(OWNER, ping())
    await plane.ledger.cancel(OWNER, cancelled.id, reason="")
    failing = await plane.ledger.submit(OWNER, ping())
    attempts, task = await started(plane, failing.id)
    again = Failure(FailureReason.WORKER_LOST, "gone")
    await attempts.fail(task, attempt=1, failure=again)
    attempts, task = await started(plane, failing.id)
    bug = Failure(FailureReason.INVALID_INPUT, "no")
    await attempts.fail(task, attempt=2, failure=bug)
    handed_back = await plane.ledger.submit(OWNER, ping())
    await tossed(plane, handed_back.id, times=2)


async def test_tasks_are_counted_by_what_became_of_them(
    plane: Cell, connection: RedisConnection
) -> None:
    await have_tasks(plane)
    await counted(plane, connection)
    found = await report(plane, connection)
    total = found.task_types["ping"].total
    assert {name: total[name] for name in ("submitted", "succeeded", "failed", "cancelled")} == {
        "submitted": 5,
        "succeeded": 2,
        "failed": 1,
        "cancelled": 1,
    }
    assert (total["retries"], total["runs"], total["waits"]) == (1, 3, 4)
    assert 0 < total["run_max"] <= total["run"]
    assert 0 <= total["wait_max"] <= total["wait"]
    assert "reused" not in total
    assert found.queue_of == {"ping": "system"}
    assert found.counted_time is not None


async def test_buckets_add_up_to_the_whole(plane: Cell, connection: RedisConnection) -> None:
    await have_tasks(plane)
    await counted(plane, connection)
    for window in (HOUR, DAY):
        found = await report(plane, connection, window=window)
        series = found.task_types["ping"]
        assert sum(each.get("submitted", 0) for each in series.buckets.values()) == 5
        assert (
            max(each.get("run_max", 0) for each in series.buckets.values())
            == (series.total["run_max"])
        )
        assert (found.last - found.first) / window.bucket == window.count - 1
        seconds = window.bucket // timedelta(seconds=1)
        assert all(start % seconds == 0 for start in series.buckets)


async def test_nothing_is_counted_twice(plane: Cell, connection: RedisConnection) -> None:
    """Not by another one, not after a lost reply, and not by one that comes late."""
    await have_tasks(plane)
    await counted(plane, connection)
    before = (await report(plane, connection)).task_types
    await counted(plane, connection)
    counters = Counters(connection, plane.keys)
    late = Tally()
    late.look(1_900_000_000_000_000, "system", ready=1, slots=1, busy=1)
    assert not await counters.add(late, after="", up_to="1-0")
    assert (await report(plane, connection)).task_types == before


async def test_what_happens_meanwhile_is_counted_next(
    plane: Cell, connection: RedisConnection
) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    first = await counted(plane, connection)
    await started(plane, task.id)
    # By the one who knows the task, and by one who has never heard of it
    await first.run_once()
    running = await plane.writer.read(task.id)
    await plane.attempts().succeed(running, attempt=1, output=b"", usage=running.usage)
    await counted(plane, connection)
    total = (await report(plane, connection)).task_types["ping"].total
    assert (total["submitted"], total["waits"], total["runs"]) == (1, 1, 1)
    assert total["run"] > 0


async def test_more_facts_than_are_counted_at_once_are_counted_at_once_again(
    plane: Cell, connection: RedisConnection
) -> None:
    await plane.ledger.submit_many(OWNER, [ping()] * (FACTS + 1))
    tally = tally_of(plane, connection)
    assert await tally.run_once() == NO_TIME
    assert await tally.run_once() > NO_TIME
    total = (await report(plane, connection)).task_types["ping"].total
    assert total["submitted"] == FACTS + 1


async def test_a_project_s_tasks_are_counted_apart(
    plane: Cell, connection: RedisConnection
) -> None:
    await plane.ledger.submit(OWNER, ping())
    await plane.ledger.submit(STRANGER, ping())
    await counted(plane, connection)
    assert (await report(plane, connection)).task_types["ping"].total == {"submitted": 2}
    own = await report(plane, connection, project="default")
    assert own.task_types["ping"].total == {"submitted": 1}
    with pytest.raises(ProjectNotFound):
        await report(plane, connection, project="elsewhere")


async def test_queues_are_looked_at(plane: Cell, connection: RedisConnection) -> None:
    await plane.ledger.submit_many(OWNER, [ping()] * 3)
    slots = [WorkerSlots(resource_class="worker", total=4, busy=1)]
    worker = Worker(id="w-1", queues=["system"], slots=slots)
    record = WorkerRecord(version=1, worker=worker).SerializeToString()
    await plane.registry.heartbeat("w-1", record)
    await counted(plane, connection)
    queues = (await report(plane, connection)).queues
    assert list(queues) == sorted({kind.queue for kind in plane.catalog.values()})
    assert queues["system"].total == {
        "looks": 1,
        "ready": 3,
        "ready_max": 3,
        "slots": 4,
        "busy": 1,
    }


async def test_facts_that_were_trimmed_uncounted_are_told_and_left_out(
    plane: Cell, connection: RedisConnection
) -> None:
    await plane.ledger.submit(OWNER, ping())
    tally = await counted(plane, connection)
    await plane.ledger.submit(OWNER, ping())
    await plane.log.trim(await plane.log.end())
    last = await plane.ledger.submit(OWNER, ping())
    await plane.log.trim(await plane.log.end())
    with capture_logs() as logs:
        await tally.run_once()
    assert [line["event"] for line in logs] == ["performance_facts_lost"]
    await tally.run_once()
    total = (await report(plane, connection)).task_types["ping"].total
    assert total == {"submitted": 1}
    await plane.ledger.cancel(OWNER, last.id, reason="")
    await tally.run_once()
    total = (await report(plane, connection)).task_types["ping"].total
    assert total == {"submitted": 1, "cancelled": 1}


async def test_a_log_that_lost_its_tail_is_not_counted_again(
    plane: Cell, connection: RedisConnection
) -> None:
    await plane.ledger.submit(OWNER, ping())
    tally = await counted(plane, connection)
    await connection.command("SET", plane.keys.counted, f"{2**50}-0")
    await tally.run_once()
    await tally.run_once()
    assert (await report(plane, connection)).task_types["ping"].total == {"submitted": 1}
    await plane.ledger.submit(OWNER, ping())
    await tally.run_once()
    assert (await report(plane, connection)).task_types["ping"].total == {"submitted": 2}


async def test_buckets_go_by_themselves(plane: Cell, connection: RedisConnection) -> None:
    await plane.ledger.submit(OWNER, ping())
    await counted(plane, connection)
    pattern = f"{plane.keys.prefix}performance:*:*"
    keys = cast("list[bytes]", await connection.command("KEYS", pattern))
    assert len(keys) >= 2
    for key in keys:
        left = cast("int", await connection.command("TTL", key))
        assert 0 < left <= 27 * 3600


async def test_only_operators_are_told(plane: Cell, connection: RedisConnection) -> None:
    performance = Performance(connection, plane.keys, plane.catalog)
    stranger = Principal("2", frozenset({"default"}), frozenset({Role.READ, Role.SUBMIT}))
    with pytest.raises(RoleMissing):
        await performance.report(stranger, project="", window=HOUR)
