"""How far behind the log's readers are, as operators see it."""

from datetime import UTC, timedelta

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.graph_progress import READER as BRAIN_READER
from callsheet.ledger.graph_progress import ROLE as BRAIN_ROLE
from callsheet.ledger.graph_progress import FactKey, Gap, GraphProgress, Progress
from callsheet.ledger.log_readers import ROLES, LogReaders
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.sidecar.tailer import READER, ROLE
from callsheet.v1.operations_service_pb2 import ListLogReadersRequest, LogReader, TaskReading
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, refusal
from tests.support.work import succeeded

NOBODY = timedelta()


async def readers(client: Client) -> dict[str, LogReader]:
    response = await client.operations.ListLogReaders(
        ListLogReadersRequest(), metadata=client.metadata
    )
    assert [each.name for each in response.readers] == sorted(
        each.name for each in response.readers
    )
    return {each.name: each for each in response.readers}


def test_the_roles_are_those_that_the_processes_hold() -> None:
    assert ROLES[READER] == ROLE
    assert ROLES[BRAIN_READER] == BRAIN_ROLE


async def test_a_sidecar_that_never_ran_is_told_of_and_nobody_does_its_work(
    plane: Plane, client: Client
) -> None:
    before = (await readers(client))[READER]
    assert (before.is_held, before.lag.ToTimedelta()) == (False, NOBODY)
    await client.submit()
    assert (await readers(client))[READER].lag.ToTimedelta() >= NOBODY


async def test_a_reader_at_the_end_of_the_log_is_not_behind(plane: Plane, client: Client) -> None:
    await client.submit()
    await plane.cell.log.save_cursor(READER, await plane.cell.log.end())
    await plane.cell.registry.hold(ROLE, "sidecar-1", duration=timedelta(minutes=1))
    reader = (await readers(client))[READER]
    assert (reader.is_held, reader.lag.ToTimedelta()) == (True, NOBODY)


async def test_a_reader_is_behind_for_as_long_as_the_first_fact_it_has_not_read_waits(
    plane: Plane, client: Client
) -> None:
    """The times of the log's entries are the server's: here they are set by hand."""
    redis = RedisConnection(plane.redis)
    await redis.command("XADD", plane.cell.keys.log, "1000-1", "t", "a", "e", b"")
    await redis.command("XADD", plane.cell.keys.log, "2000-1", "t", "a", "e", b"")
    await plane.cell.log.save_cursor(BRAIN_READER, "1000-1")
    await plane.cell.log.save_cursor(READER, "2000-1")
    found = await readers(client)
    assert found[BRAIN_READER].lag.ToTimedelta() > timedelta(days=365)
    assert found[READER].lag.ToTimedelta() == NOBODY


async def test_a_reader_that_the_log_was_not_kept_for_is_behind_since_its_cursor(
    plane: Plane, client: Client
) -> None:
    redis = RedisConnection(plane.redis)
    await redis.command("XADD", plane.cell.keys.log, "1000-1", "t", "a", "e", b"")
    await redis.command("XADD", plane.cell.keys.log, "3000-1", "t", "a", "e", b"")
    await plane.cell.log.save_cursor(BRAIN_READER, "1000-1")
    await plane.cell.log.trim("3000-1")
    assert (await readers(client))[BRAIN_READER].lag.ToTimedelta() > timedelta(days=365)


async def test_a_role_whose_time_has_run_out_is_not_held(plane: Plane, client: Client) -> None:
    await plane.cell.registry.hold(ROLE, "sidecar-1", duration=timedelta(microseconds=1))
    assert not (await readers(client))[READER].is_held


async def test_who_may_not_operate_is_told_nothing(plane: Plane) -> None:
    reader = await plane.newcomer(projects=frozenset({"default"}), roles=frozenset({"read"}))
    told = await refusal(
        reader.operations.ListLogReaders(ListLogReadersRequest(), metadata=reader.metadata)
    )
    assert told.reason == "ROLE_MISSING"


async def test_the_ledger_itself_asks_for_the_role(plane: Plane) -> None:
    looked = LogReaders(
        RedisConnection(plane.redis), plane.cell.keys, plane.cell.log, plane.cell.store
    )
    operator = Principal("0" * 8, frozenset({"default"}), frozenset({Role.OPERATE}))
    assert [each.name for each in await looked.all(operator)] == [READER]


async def reading(client: Client, task_id: str, *, reader: str) -> TaskReading:
    response = await client.operations.ListLogReaders(
        ListLogReadersRequest(task_id=task_id), metadata=client.metadata
    )
    (found,) = (each for each in response.readers if each.name == reader)
    assert found.HasField("task")
    return found.task


async def test_a_reader_has_done_with_a_task_when_its_cursor_has_passed_the_latest_fact(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    submitted = await plane.cell.log.end()
    assert not (await reading(client, task_id, reader=READER)).is_done
    await plane.cell.log.save_cursor(READER, submitted)
    assert (await reading(client, task_id, reader=READER)).is_done
    # A newer fact is another matter, however soon it came
    await succeeded(plane.cell, task_id)
    assert not (await reading(client, task_id, reader=READER)).is_done
    await plane.cell.log.save_cursor(READER, await plane.cell.log.end())
    assert (await reading(client, task_id, reader=READER)) == TaskReading(is_done=True)


async def test_of_the_brain_it_is_told_when_and_what_it_refused(
    plane: Plane, client: Client
) -> None:
    progress = GraphProgress(RedisConnection(plane.redis), plane.cell.keys)
    await plane.cell.registry.hold(BRAIN_ROLE, "sink-1", duration=timedelta(minutes=1))
    epoch = await plane.cell.log.epoch()
    start = Progress("0-0", epoch)
    assert await progress.advance(Progress(), start, holder="sink-1")
    told, refused = await client.submit(), await client.submit()
    dead = [(FactKey(epoch, refused, 1), "it is poison")]
    end = start._replace(position=await plane.cell.log.end())
    assert await progress.advance(start, end, holder="sink-1", dead=dead)
    found = await reading(client, told, reader=BRAIN_READER)
    assert found.is_done
    submitted = await client.tasks.GetTask(GetTaskRequest(task_id=told), metadata=client.metadata)
    assert found.done_time.ToDatetime(UTC) >= submitted.task.create_time.ToDatetime(UTC)
    assert await reading(client, refused, reader=BRAIN_READER) == TaskReading(
        refusal="it is poison"
    )


async def test_while_the_brain_has_a_gap_a_task_in_it_was_not_told(
    plane: Plane, client: Client
) -> None:
    progress = GraphProgress(RedisConnection(plane.redis), plane.cell.keys)
    await plane.cell.registry.hold(BRAIN_ROLE, "sink-1", duration=timedelta(minutes=1))
    task_id = await client.submit()
    resumed = Progress(await plane.cell.log.end(), await plane.cell.log.epoch(), Gap(0, None))
    assert await progress.advance(Progress(), resumed, holder="sink-1")
    assert await reading(client, task_id, reader=BRAIN_READER) == TaskReading()
    assert await progress.advance(resumed, resumed._replace(gap=None), holder="sink-1")
    assert (await reading(client, task_id, reader=BRAIN_READER)).is_done
