"""The Redis of a command: the given one, or the embedded Valkey, joined or started for it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.redis import connect_ledger
from callsheet.runtime.settings import Settings


@asynccontextmanager
async def ledger_redis(settings: Settings) -> AsyncGenerator[Redis, None]:
    """Hold a client of the ledger's Redis.

    Raises what connect_ledger raises, and EngineUnfit or ValkeyUnavailable of the embedded one.
    """
    if settings.redis_url is not None:
        async with await connect_ledger(
            settings.redis_url, max_connections=2, client_name="callsheetd"
        ) as redis:
            yield redis
        return
    with EmbeddedValkey(settings.state_dir / "valkey") as valkey:
        async with await connect_ledger(
            valkey.url, max_connections=2, client_name="callsheetd"
        ) as redis:
            yield redis


def running_embedded_url(settings: Settings) -> str | None:
    """Return the URL of the embedded Valkey if one answers in the state folder."""
    folder = settings.state_dir / "valkey"
    if not folder.exists():
        return None
    valkey = EmbeddedValkey(folder)
    return valkey.url if valkey.answers() else None
