"""How far behind the log's readers are, as operators see it."""

from datetime import timedelta

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.graph_progress import READER as BRAIN_READER
from callsheet.ledger.graph_progress import ROLE as BRAIN_ROLE
from callsheet.ledger.log_readers import ROLES, LogReaders
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.sidecar.tailer import READER, ROLE
from callsheet.v1.operations_service_pb2 import ListLogReadersRequest, LogReader
from tests.support.controls import Client, Plane, refusal

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
    looked = LogReaders(RedisConnection(plane.redis), plane.cell.keys, plane.cell.log)
    operator = Principal("0" * 8, frozenset({"default"}), frozenset({Role.OPERATE}))
    assert [each.name for each in await looked.all(operator)] == [READER]
