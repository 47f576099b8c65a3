"""The Redis of each role: how it is, and forgetting what is cached.

Sessions and cache are the gateway's own. The ledger's, which has the role of queue and state, is
not: what is told of it is what the watch of health saw last, or what control says of it.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Final, cast

from callsheet.gateway.health.views import time_view
from callsheet.gateway.health.watch import CONTROL, Component, HealthWatch
from callsheet.gateway.problems import Refused
from callsheet.gateway.side_redis import SideRedis, SideRedisAway
from callsheet.gateway.task_views import Json
from callsheet.runtime.checks.control_check import LEDGER_AWAY
from callsheet.runtime.checks.finding import Finding, HealthState

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


#: The states of health, in the words of the roles.
_WORDS: Final[Mapping[HealthState, str]] = {
    HealthState.UP: "connected",
    HealthState.DEGRADED: "degraded",
    HealthState.DOWN: "away",
    HealthState.UNKNOWN: "unknown",
}
#: The figures of health, by the names that INFO's have here.
_FIGURES: Final[Mapping[str, str]] = {
    "clients": "connected_clients",
    "used_memory_bytes": "used_memory_bytes",
    "max_memory_bytes": "maxmemory_bytes",
}
#: The components of health.
_LEDGER: Final = "redis"


class RedisRoles:
    """The Redis of queue and state, of sessions, and of the cache."""

    def __init__(
        self, sessions: SideRedis, cache: SideRedis, watch: HealthWatch, *, cell: str
    ) -> None:
        self._roles = {"sessions": sessions, "cache": cache}
        self._watch = watch
        self._cache = cache
        #: No key of the ledger begins so, should the cache be told the ledger's own URL.
        self._prefix = f"callsheet:{{{cell}}}:cache:"

    async def status(self) -> Json:
        """Return how each is: connected, with its figures, or away, with the reason."""
        found = await asyncio.gather(*map(_status, self._roles.values()))
        roles = {
            "queue_and_state": _ledger_status(self._watch),
            **dict(zip(self._roles, found, strict=True)),
        }
        connected = all(role["status"] == "connected" for role in roles.values())
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


def _ledger_status(watch: HealthWatch) -> Json:
    """Return how the ledger's Redis was when somebody looked last, and who did."""
    component = watch.components.get(_LEDGER)
    if component is not None:
        figures: Json = {
            ours: component.finding.figures[theirs]
            for theirs, ours in _FIGURES.items()
            if theirs in component.finding.figures
        }
        return _looked_at(component, component.finding.state, component.finding.reason) | figures
    control = watch.components[CONTROL]
    match control.finding:
        case Finding(state=HealthState.DOWN, reason=reason) if reason != LEDGER_AWAY:
            return _looked_at(control, HealthState.UNKNOWN, "control does not answer")
        case Finding(state=state, reason=reason):
            return _looked_at(control, state, reason)


def _looked_at(component: Component, state: HealthState, reason: str) -> Json:
    return {
        "status": _WORDS[state],
        "reason": reason or None,
        "since": time_view(component.since),
        "checked": None if component.seen is None else time_view(component.seen),
    }


async def _status(redis: SideRedis) -> Json:
    try:
        found = cast("Mapping[str, object]", await redis.command("INFO"))
        keys = await redis.command("DBSIZE")
    except SideRedisAway:
        return {"status": "away"}
    figures: Json = {ours: found[theirs] for theirs, ours in _TOLD.items() if theirs in found}
    version = found.get("valkey_version") or found.get("redis_version")
    return {"status": "connected", "version": version, "keys": keys, **figures}
