"""A cell's ledger in Redis, put together: what every process of the plane starts from."""

from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from callsheet.ledger.ids import RandomIds
from callsheet.ledger.index import Keys
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.redis_registry import RedisRegistry
from callsheet.ledger.redis_store import RedisStore
from callsheet.ledger.writer import Writer


@dataclass(frozen=True, slots=True)
class RedisCell:
    """One cell's ledger, all sides of it, over one client."""

    connection: RedisConnection
    keys: Keys
    ids: RandomIds
    store: RedisStore
    log: RedisLog
    registry: RedisRegistry

    def writer(self, *, retention: timedelta) -> Writer:
        """Return what decides and commits; final tasks are kept that long."""
        return Writer(self.store, self.keys, self.ids, retention=retention)


def redis_cell(redis: Redis, cell: str, *, patience: timedelta = timedelta(0)) -> RedisCell:
    """Return the ledger of a cell; a command is repeated for as long as *patience*."""
    connection, keys, ids = RedisConnection(redis, patience=patience), Keys(cell), RandomIds()
    return RedisCell(
        connection=connection,
        keys=keys,
        ids=ids,
        store=RedisStore(connection, keys),
        log=RedisLog(connection, keys, new_epoch=ids.epoch),
        registry=RedisRegistry(connection, keys),
    )
