"""Looks at a Redis: whether it answers, and whether it keeps what it acknowledges."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from callsheet.runtime.checks.finding import Finding, HealthState
from callsheet.runtime.redis import connect
from callsheet.runtime.settings import without_password

#: The part of its memory past which the ledger takes no new tasks.
FULL: Final = 0.8
_PATIENCE: Final = timedelta(seconds=3)
#: Of what a server says to whom it does not know; redis-py has no one error for it.
_STRANGERS: Final = ("WRONGPASS", "NOAUTH", "invalid username-password", "uthentication required")
_UNSAFE: Final = "it may lose what it acknowledged"


class RedisCheck:
    """Looks at one Redis; to be closed at the end.

    One that *is_ledger* must be durable and have room; the others may forget.
    """

    def __init__(self, name: str, url: str, *, is_ledger: bool, mend: str) -> None:
        self.name = name
        self.is_essential = is_ledger
        self._url = url
        self._mend = mend
        #: Its connection, from the first look on.
        self.redis: Redis | None = None

    async def look(self) -> Finding:
        """Return how the server is now."""
        if self.redis is None:
            self.redis = connect(
                self._url,
                max_connections=1,
                client_name="callsheet-health",
                socket_timeout=_PATIENCE,
                connect_timeout=_PATIENCE,
            )
        try:
            return await self._looked(self.redis)
        except (RedisError, OSError) as error:
            return self._down(_reason(error), error)

    async def close(self) -> None:
        """Close its connection."""
        if self.redis is not None:
            await self.redis.aclose()

    async def _looked(self, redis: Redis) -> Finding:
        before = monotonic()
        await redis.ping()  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        latency = timedelta(seconds=monotonic() - before)
        facts = await _facts(redis)
        used, limit = int(facts["used_memory"]), int(facts.get("maxmemory", 0))
        kept = Finding(state=HealthState.UP)
        if self.is_essential:
            kept = durability(facts, is_full=limit > 0 and used > FULL * limit)
        server = "Valkey" if "valkey_version" in facts else "Redis"
        version = facts.get("valkey_version") or facts.get("redis_version", "")
        return replace(
            kept,
            detail=f"{server} {version} at {without_password(self._url)}",
            latency=latency,
            figures={
                "used_memory_bytes": used,
                "max_memory_bytes": limit,
                "clients": int(facts.get("connected_clients", 0)),
            },
        )

    def _down(self, reason: str, error: Exception) -> Finding:
        detail = f"{without_password(self._url)}: {without_password(str(error))}"
        return Finding(state=HealthState.DOWN, reason=reason, detail=detail, mend=self._mend)


async def _facts(redis: Redis) -> Mapping[str, str | int]:
    found = cast("dict[str, str | int]", await redis.info())  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves options untyped
    try:
        settings = cast("Mapping[Any, Any]", await redis.config_get("appendfsync"))  # pyright: ignore[reportUnknownMemberType]  # likewise untyped
    except ResponseError:
        return found  # hosted servers forbid CONFIG
    value = settings.get("appendfsync", settings.get(b"appendfsync"))
    return {**found, "appendfsync": value.decode() if isinstance(value, bytes) else str(value)}


def _reason(error: Exception) -> str:
    if isinstance(error, AuthenticationError) or any(word in str(error) for word in _STRANGERS):
        return "it refuses the user or password of its URL"
    if isinstance(error, BusyLoadingError):
        return "it still reads what it has stored"
    return "it does not answer"


def durability(facts: Mapping[str, str | int], *, is_full: bool) -> Finding:
    """Return how well a server that says this of itself keeps the ledger."""
    if facts.get("aof_enabled") and facts.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            state=HealthState.DOWN,
            reason="it cannot write to its disk",
            mend="make room on the server's disk",
        )
    if is_full:
        mend = "raise maxmemory, or wait: running work still ends"
        return _lessened("it is nearly full: new tasks are refused", mend)
    if not facts.get("aof_enabled"):
        return _lessened(_UNSAFE, "set `appendonly yes`")
    if facts.get("appendfsync", "always") != "always":
        return _lessened(_UNSAFE, "set `appendfsync always`")
    if facts.get("maxmemory_policy", "noeviction") != "noeviction":
        return _lessened("it drops tasks when it is full", "set `maxmemory-policy noeviction`")
    return Finding(state=HealthState.UP)


def _lessened(reason: str, mend: str) -> Finding:
    return Finding(state=HealthState.DEGRADED, reason=reason, mend=mend)
