"""Every store, in turn: what one does, all must do."""

import pytest
from redis.asyncio import Redis

from callsheet.ledger.redis_connection import RedisConnection
from tests.support.ledgers import Cell, memory_cell, redis_cell


@pytest.fixture(params=["memory", "redis"])
def plane(request: pytest.FixtureRequest, redis: Redis, cell: str) -> Cell:
    """A fresh cell."""
    return memory_cell() if request.param == "memory" else redis_cell(RedisConnection(redis), cell)
