"""A cell on a real server, and upkeep's ways of seeing to it."""

import pytest
from redis.asyncio import Redis

from callsheet.ledger.redis_connection import RedisConnection
from tests.support.ledgers import Cell, redis_cell


@pytest.fixture
def plane(redis: Redis, cell: str) -> Cell:
    """A fresh cell."""
    return redis_cell(RedisConnection(redis), cell)
