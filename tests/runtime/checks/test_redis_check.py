"""A Redis is looked at: a real server, and what it says of itself."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.checks.finding import Finding, HealthState, looked
from callsheet.runtime.checks.redis_check import FULL, RedisCheck, durability
from callsheet.runtime.settings import Settings

#: What a server that keeps everything says of itself.
DURABLE = {
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "appendfsync": "always",
    "maxmemory_policy": "noeviction",
}


@asynccontextmanager
async def check_of(url: str, *, is_ledger: bool = True) -> AsyncGenerator[RedisCheck]:
    check = RedisCheck("redis", url, is_ledger=is_ledger, mend="start it")
    try:
        yield check
    finally:
        await check.close()


async def found_at(url: str, *, is_ledger: bool = True) -> Finding:
    async with check_of(url, is_ledger=is_ledger) as check:
        return await looked(check)


async def test_a_server_that_keeps_everything_is_up(valkey_server: EmbeddedValkey) -> None:
    found = await found_at(valkey_server.url)
    assert (found.state, found.reason) == (HealthState.UP, "")
    assert found.detail.startswith("Valkey ")
    assert found.latency is not None
    assert found.figures["used_memory_bytes"]


async def test_other_roles_need_not_be_durable(valkey_server: EmbeddedValkey) -> None:
    url = Settings().sessions_redis(valkey_server.url)
    assert url is not None
    assert (await found_at(url, is_ledger=False)).state is HealthState.UP


async def test_a_server_that_is_not_there_is_down_and_its_password_is_not_shown() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and never listening
        found = await found_at(f"redis://me:hunter2@127.0.0.1:{nobody.getsockname()[1]}/0")
    assert (found.state, found.reason, found.mend) == (
        HealthState.DOWN,
        "it does not answer",
        "start it",
    )
    assert "hunter2" not in repr(found)
    assert "127.0.0.1" not in found.reason


async def test_a_wrong_password_is_told_from_silence(valkey_server: EmbeddedValkey) -> None:
    path = valkey_server.url.removeprefix("unix://").partition("?")[0]
    found = await found_at(f"unix://nobody:hunter2@{path}?db=0")
    assert found.state is HealthState.DOWN
    assert found.reason == "it refuses the user or password of its URL"
    assert "hunter2" not in repr(found)


async def test_a_server_that_comes_back_is_up_again(
    valkey_server: EmbeddedValkey,
) -> None:
    """The check keeps one connection, and opens another when the server has cut it."""
    async with check_of(valkey_server.url) as check:
        assert (await looked(check)).state is HealthState.UP
        redis = check.redis
        assert redis is not None
        await redis.connection_pool.disconnect()
        assert (await looked(check)).state is HealthState.UP


@pytest.mark.parametrize(
    ("fact", "value", "state", "reason"),
    [
        ("aof_enabled", 0, HealthState.DEGRADED, "it may lose what it acknowledged"),
        ("appendfsync", "everysec", HealthState.DEGRADED, "it may lose what it acknowledged"),
        ("aof_last_write_status", "err", HealthState.DOWN, "it cannot write to its disk"),
        ("maxmemory_policy", "allkeys-lru", HealthState.DEGRADED, "it drops tasks when it is full"),
    ],
)
def test_a_ledger_that_forgets_is_told_of(
    fact: str, value: str | int, state: HealthState, reason: str
) -> None:
    found = durability({**DURABLE, fact: value}, is_full=False)
    assert (found.state, found.reason) == (state, reason)
    assert found.mend


def test_a_full_ledger_is_told_of() -> None:
    assert 0 < FULL < 1
    assert durability(DURABLE, is_full=True).state is HealthState.DEGRADED
    assert durability(DURABLE, is_full=False).state is HealthState.UP
