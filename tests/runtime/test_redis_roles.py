"""Roles of Redis are apart: by their own URLs, else by other databases of the ledger's server."""

import pytest

from callsheet.runtime.redis import connect
from callsheet.runtime.settings import Settings


@pytest.mark.parametrize(
    "ledger",
    [
        "redis://me:hunter2@host:6380/0",
        "redis://me:hunter2@host:6380",
        "rediss://me:hunter2@host:6380?ssl_cert_reqs=none&db=0",
    ],
)
async def test_sessions_and_cache_are_databases_of_the_ledgers_server(ledger: str) -> None:
    settings = Settings(redis_url=ledger, sessions_redis_url=None, cache_redis_url=None)
    for url, database in (
        (settings.sessions_redis(ledger), 1),
        (settings.cache_redis(ledger), 2),
    ):
        assert url is not None
        options = connect(url, max_connections=1).connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["db"]) == ("host", 6380, database)
        assert (options["username"], options["password"]) == ("me", "hunter2")


async def test_a_unix_socket_keeps_its_path() -> None:
    url = Settings().sessions_redis("unix:///a%20folder/redis.sock?db=0")
    assert url is not None
    options = connect(url, max_connections=1).connection_pool.connection_kwargs
    assert (options["path"], options["db"]) == ("/a folder/redis.sock", 1)


def test_a_url_of_their_own_wins_and_without_any_there_is_none() -> None:
    settings = Settings(sessions_redis_url="redis://elsewhere/7", cache_redis_url=None)
    assert settings.sessions_redis("redis://host") == "redis://elsewhere/7"
    assert settings.cache_redis(None) is None
