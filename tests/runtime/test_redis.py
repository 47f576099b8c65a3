"""Connections to a real Valkey: bounded, never retried, and honest about durability."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.redis import (
    RedisUnfit,
    check_ledger_server,
    connect,
    connect_ledger,
)


async def send(redis: Redis, *words: str) -> object:
    reply = await redis.execute_command(*words)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # redis-py leaves replies untyped
    return cast("object", reply)


@pytest.fixture
def unsafe(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server that a benchmark made faster than is safe."""
    with EmbeddedValkey(tmp_path / "unsafe", appendfsync="everysec") as server:
        yield server


async def test_answers_are_bytes(redis: Redis, cell: str) -> None:
    await redis.set(f"{cell}:a", "é")
    assert await redis.get(f"{cell}:a") == "é".encode()


async def test_a_full_pool_makes_the_next_command_wait(valkey_server: EmbeddedValkey) -> None:
    async with connect(valkey_server.url, max_connections=2, client_name="two") as redis:
        answers = await asyncio.gather(*[send(redis, "PING") for _ in range(100)])
        assert answers == [True] * 100
        clients = cast("list[dict[str, str]]", await send(redis, "CLIENT LIST"))
        assert len([each for each in clients if each["name"] == "two"]) == 2


async def test_waiting_for_a_connection_ends(valkey_server: EmbeddedValkey) -> None:
    async with connect(
        valkey_server.url, max_connections=1, pool_timeout=timedelta(milliseconds=20)
    ) as redis:
        connection = await redis.connection_pool.get_connection()
        with pytest.raises(RedisConnectionError, match="No connection available"):
            await send(redis, "PING")
        await redis.connection_pool.release(connection)
        assert await send(redis, "PING")


async def test_a_command_whose_reply_is_lost_is_not_repeated() -> None:
    """Who repeats it must know that it may have happened: the ledger does, the client does not."""
    commands: list[bytes] = []

    async def cut_after_incr(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(4096):
            if b"INCR" in words:
                commands.append(words)
                break
            # HELLO, CLIENT SETINFO and CLIENT SETNAME of the handshake, one or more at a time
            writer.write(b"+OK\r\n" * words.count(b"*"))
        writer.close()

    server = await asyncio.start_server(cut_after_incr, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"redis://127.0.0.1:{port}/0", max_connections=1) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.incr("counter")
    assert len(commands) == 1


async def test_a_silent_server_is_given_up_once_and_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with connect(
            f"redis://127.0.0.1:{port}/0",
            max_connections=1,
            socket_timeout=timedelta(milliseconds=50),
        ) as redis:
            with pytest.raises(RedisTimeoutError):
                await send(redis, "PING")


async def test_a_server_that_is_not_there_is_a_connection_error(tmp_path: Path) -> None:
    with pytest.raises(RedisConnectionError):
        await connect_ledger(f"unix://{tmp_path}/none.sock", max_connections=1, client_name="x")


@pytest.mark.parametrize("option", ["decode_responses=true", "retry_on_timeout=true", "max_x=1"])
def test_a_url_may_not_change_what_is_decided(option: str) -> None:
    with pytest.raises(ValueError, match="the Redis URL may not set"):
        connect(f"redis://host/0?{option}", max_connections=1)


@pytest.mark.parametrize("url", ["http://host", "host:6379", ""])
def test_a_url_of_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="redis://, rediss://, unix://"):
        connect(url, max_connections=1)


async def test_clients_bear_the_name_of_their_process(valkey_server: EmbeddedValkey) -> None:
    async with connect(valkey_server.url, max_connections=1, client_name="upkeep-7") as redis:
        assert await send(redis, "CLIENT GETNAME") in ("upkeep-7", b"upkeep-7")


async def test_a_server_that_keeps_everything_is_accepted_in_silence(
    valkey_server: EmbeddedValkey,
) -> None:
    with structlog.testing.capture_logs() as events:
        redis = await connect_ledger(valkey_server.url, max_connections=1, client_name="x")
        assert await check_ledger_server(redis) == ()
        await redis.aclose()
    assert events == []


async def test_a_server_that_may_lose_tasks_is_told_of_loudly(unsafe: EmbeddedValkey) -> None:
    with structlog.testing.capture_logs() as events:
        async with connect(unsafe.url, max_connections=1) as redis:
            (complaint,) = await check_ledger_server(redis)
    assert complaint.startswith("appendfsync is 'everysec', not 'always': a crash")
    assert [(event["event"], event["log_level"]) for event in events] == [
        ("redis_found_unsafe", "warning")
    ]


async def test_a_server_that_hides_its_settings_is_told_of(unsafe: EmbeddedValkey) -> None:
    async with connect(unsafe.url, max_connections=1) as admin:
        await send(admin, "ACL", "SETUSER", "hosted", "on", "nopass", "~*", "+@all", "-config")
    url = unsafe.url.replace("unix://", "unix://hosted:x@")
    with structlog.testing.capture_logs() as events:
        async with connect(url, max_connections=1) as redis:
            (complaint,) = await check_ledger_server(redis)
    assert "does not say" in complaint
    assert [event["event"] for event in events] == ["redis_durability_unknown"]


async def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    async def facts_of_an_old_server(section: str) -> dict[str, str]:
        return {"redis_version": "6.2.14"}

    monkeypatch.setattr(redis, "info", facts_of_an_old_server)
    with pytest.raises(RedisUnfit, match=r"needs Redis 7\.0 or Valkey; this server is Redis 6\.2"):
        await check_ledger_server(redis)
