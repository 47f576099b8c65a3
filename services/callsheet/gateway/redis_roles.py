"""The Redis of each role beside the ledger's: how it is, and forgetting what is cached."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Final, cast

from callsheet.gateway.problems import Refused
from callsheet.gateway.side_redis import SideRedis, SideRedisAway
from callsheet.gateway.task_views import Json

#: Keys looked at a time, and at most.
_AT_A_TIME: Final = 1000
_MOST_LOOKS: Final = 100_000
_LATER: Final = timedelta(seconds=1)
#: What of INFO is told, and under which name.
_TOLD: Final[Mapping[str, str]] = {
    "connected_clients": "connected_clients",
    "used_memory": "used_memory_bytes",
    "maxmemory": "maxmemory_bytes",
    "maxmemory_policy": "maxmemory_policy",
    "uptime_in_seconds": "uptime_seconds",
    "total_commands_processed": "commands_processed",
    "keyspace_hits": "keyspace_hits",
    "keyspace_misses": "keyspace_misses",
    "evicted_keys": "evicted_keys",
    "expired_keys": "expired_keys",
}


class RedisRoles:
    """The Redis of sessions and the one of the cache."""

    def __init__(self, sessions: SideRedis, cache: SideRedis, *, cell: str) -> None:
        self._roles = {"sessions": sessions, "cache": cache}
        self._cache = cache
        #: No key of the ledger begins so, should the cache be told the ledger's own URL.
        self._prefix = f"callsheet:{{{cell}}}:cache:"

    async def status(self) -> Json:
        """Return how each is: connected, with its figures, or away, with the reason."""
        found = await asyncio.gather(*map(_status, self._roles.values()))
        roles = dict(zip(self._roles, found, strict=True))
        connected = all(role["status"] == "connected" for role in found)
        return {"status": "connected" if connected else "degraded", "roles": roles}

    async def clear_cache(self) -> int:
        """Delete every cached answer, and return how many there were. Raises Refused, 503."""
        cleared, cursor = 0, "0"
        try:
            for _ in range(_MOST_LOOKS):
                words = ("SCAN", cursor, "MATCH", f"{self._prefix}*", "COUNT", _AT_A_TIME)
                place, keys = cast("tuple[int, list[bytes]]", await self._cache.command(*words))
                if keys:
                    cleared += cast("int", await self._cache.command("UNLINK", *keys))
                cursor = str(place)
                if cursor == "0":
                    break
        except SideRedisAway as away:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "CACHE_UNAVAILABLE",
                "the cache's Redis does not answer",
                retry_after=_LATER,
            ) from away
        return cleared


async def _status(redis: SideRedis) -> Json:
    try:
        found = cast("Mapping[str, object]", await redis.command("INFO"))
        keys = await redis.command("DBSIZE")
    except SideRedisAway:
        return {"status": "away"}
    figures: Json = {ours: found[theirs] for theirs, ours in _TOLD.items() if theirs in found}
    version = found.get("valkey_version") or found.get("redis_version")
    return {"status": "connected", "version": version, "keys": keys, **figures}
