"""Connections to Redis: bounded, never retried behind our back, and checked for what they keep."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

import hiredis
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.typing import EncodableT

SOCKET_TIMEOUT: Final = timedelta(seconds=5)
CONNECT_TIMEOUT: Final = timedelta(seconds=3)
#: How long a caller waits for a free connection of a full pool.
POOL_TIMEOUT: Final = timedelta(seconds=5)

#: Connections kept at hand for scripts; more are taken from the pool and given back.
_AT_HAND: Final = 4
#: Commands whose replies redis-py passes on as they come.
_SCRIPTS: Final = frozenset({"EVALSHA", "EVAL", "BLPOP"})

_OLDEST: Final = (7, 0)
#: What a URL may say of a connection; all else is decided here.
_URL_OPTIONS: Final = frozenset({"db", "username", "password", "client_name", "protocol"})

#: What the ledger asks of its server, and what happens where it is otherwise.
_WANTED: Final[Mapping[str, str]] = MappingProxyType(
    {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
)
_CONSEQUENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "appendonly": "a restart of the server loses every task",
        "appendfsync": "a crash of the server loses the last acknowledged writes",
        "maxmemory-policy": "a full server drops tasks without a word",
    }
)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


#: Its stub wants a tuple of one word and gives nothing back.
_pack = cast("Callable[[tuple[EncodableT, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]  # as said above


class _Quick(AbstractConnection):
    """Packs commands in C, and sends them without redis-py's detours."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """Return the command as the server reads it."""
        name = args[0]
        if isinstance(name, str) and " " in name:  # such as SCRIPT LOAD, which is two words
            args = (*name.split(), *args[1:])
        return [_pack(args)]

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  # as redis-py declares it
    ) -> None:
        """Write the command; the timeout of its reply covers the writing too.

        redis-py waits for each write with asyncio.wait_for, which makes a task of it and, before
        Python 3.12, may lose a cancellation: then a caller that was told to end does not.
        """
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        if self._writer is None or self._writer.is_closing():
            await self.disconnect(nowait=True)
            raise RedisConnectionError("the connection was closed before the command was sent")
        if isinstance(command, str):
            command = command.encode()
        # At most one command is on its way: what waits in the buffer is bounded by it.
        self._writer.writelines([command] if isinstance(command, bytes) else command)

    @property
    def open(self) -> bool:
        """Whether it is connected, and the server has not hung up."""
        return self.is_connected and self._writer is not None and not self._writer.is_closing()


class _Connection(_Quick, Connection):
    pass


class _SSLConnection(_Quick, SSLConnection):
    pass


class _UnixConnection(_Quick, UnixDomainSocketConnection):
    pass


_QUICK: Final[Mapping[type[AbstractConnection], type[AbstractConnection]]] = MappingProxyType(
    {
        Connection: _Connection,
        SSLConnection: _SSLConnection,
        UnixDomainSocketConnection: _UnixConnection,
    }
)


class _QuickRedis(Redis):
    """Runs scripts on connections kept at hand: redis-py's own way takes three times the work."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - redis-py's own options
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves options untyped
        self._at_hand: list[_Quick] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as redis-py has it
        """Send one command; return its reply."""
        if args[0] not in _SCRIPTS or options:
            return await super().execute_command(*args, **options)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # redis-py leaves replies untyped
        connection = await self._connection()
        try:
            await connection.send_command(*args)
            return await connection.read_response()  # pyright: ignore[reportUnknownVariableType]  # untyped, likewise
        except ResponseError:
            raise
        except BaseException:
            # A reply that is still to come must not be taken for the next command's.
            await connection.disconnect(nowait=True)
            raise
        finally:
            if len(self._at_hand) < _AT_HAND and isinstance(connection, _Quick) and connection.open:
                self._at_hand.append(connection)
            else:
                await self.connection_pool.release(connection)

    async def _connection(self) -> AbstractConnection:
        while self._at_hand:
            connection = self._at_hand.pop()
            if connection.open:
                return connection
            # The pool dials it again when its turn comes.
            await self.connection_pool.release(connection)
        return await self.connection_pool.get_connection()


class RedisUnfit(Exception):
    """The server cannot hold the ledger."""


def connect(
    url: str,
    *,
    max_connections: int,
    client_name: str = "callsheet",
    socket_timeout: timedelta = SOCKET_TIMEOUT,
    connect_timeout: timedelta = CONNECT_TIMEOUT,
    pool_timeout: timedelta = POOL_TIMEOUT,
) -> Redis:
    """Return a client of *url* that answers bytes; nothing is dialled before the first command.

    At most *max_connections* are open; who needs another waits *pool_timeout* and then gets
    redis.exceptions.ConnectionError. No command is ever repeated by the client itself, because a
    write whose reply was lost may have happened. A blocking command must block for less than
    *socket_timeout*. Raises ValueError when the URL is not one of redis://, rediss:// or unix://,
    or carries an option that is decided here.
    """
    _check_options(url)
    options: dict[str, Any] = {
        "client_name": client_name,
        "decode_responses": False,
        "socket_timeout": socket_timeout.total_seconds(),
        "socket_connect_timeout": connect_timeout.total_seconds(),
        "retry": Retry(NoBackoff(), 0),
        # They are for one vendor's cloud and cost every other server a refused command.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    options |= {"max_connections": max_connections, "timeout": pool_timeout.total_seconds()}
    pool = BlockingConnectionPool.from_url(url, **options)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves options untyped
    pool.connection_class = _QUICK[pool.connection_class]
    return _QuickRedis.from_pool(pool)


async def connect_ledger(url: str, *, max_connections: int, client_name: str) -> Redis:
    """Return a client of a server that was found fit to hold the ledger.

    Raises RedisUnfit as check_ledger_server does, and RedisError when the server does not answer.
    """
    redis = connect(url, max_connections=max_connections, client_name=client_name)
    try:
        await check_ledger_server(redis)
    except (RedisError, RedisUnfit):
        await redis.aclose()
        raise
    return redis


async def check_ledger_server(redis: Redis) -> tuple[str, ...]:
    """Return, and log loudly, in what ways the server may lose acknowledged writes.

    Raises RedisUnfit when it is older than 7.0.
    """
    facts = await redis.info("server")  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves options untyped
    version = str(facts.get("valkey_version") or facts.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        raise RedisUnfit(f"the ledger needs Redis 7.0 or Valkey; this server is Redis {version}")
    try:
        found = await redis.config_get(*_WANTED)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves options untyped
    except ResponseError as error:
        # Hosted servers forbid CONFIG; then nobody here knows what they keep.
        _log.warning("redis_durability_unknown", reason=str(error))
        return ("the server does not say whether it keeps what it acknowledges",)
    complaints: list[str] = []
    for name, wanted in _WANTED.items():
        value = _text(cast("Mapping[Any, Any]", found), name)
        if value != wanted:
            _log.warning("redis_found_unsafe", directive=name, found=value, wanted=wanted)
            complaints.append(f"{name} is {value!r}, not {wanted!r}: {_CONSEQUENCES[name]}")
    return tuple(complaints)


def _text(answer: Mapping[Any, Any], name: str) -> str:
    value = answer.get(name, answer.get(name.encode(), b""))
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_options(url: str) -> None:
    for name, _ in parse_qsl(urlsplit(url).query):
        if name not in _URL_OPTIONS and not name.startswith("ssl_"):
            allowed = ", ".join(sorted(_URL_OPTIONS))
            raise ValueError(f"the Redis URL may not set {name!r}; it may set {allowed} and ssl_*")
