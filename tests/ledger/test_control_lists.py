"""What waits for a worker that never comes back goes by itself."""

from typing import cast

from redis.asyncio import Redis

from callsheet.ledger.redis_connection import RedisConnection
from tests.support.ledgers import OWNER, redis_cell
from tests.support.upkeeping import running

DAY_SECONDS = 86_400


async def test_the_control_list_of_a_worker_that_died_is_kept_for_a_day(
    redis: Redis, cell: str
) -> None:
    connection = RedisConnection(redis)
    plane = redis_cell(connection, cell)
    task = await running(plane, worker="worker-1")
    await plane.ledger.cancel(OWNER, task.id, reason="enough")
    left = cast("int", await connection.command("TTL", plane.keys.control("worker-1")))
    assert DAY_SECONDS // 2 < left <= DAY_SECONDS
