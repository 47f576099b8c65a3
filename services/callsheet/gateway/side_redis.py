"""Redis beside the ledger's, for what the plane can do without: sessions and cache."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha1
from time import monotonic
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from callsheet.runtime.redis import connect

#: What a command may consist of.
Word = str | bytes | int

#: A server that does not answer in this time is away: nobody waits long for what can be missed.
SOCKET_TIMEOUT: Final = timedelta(seconds=2)
CONNECT_TIMEOUT: Final = timedelta(seconds=1)
POOL_TIMEOUT: Final = timedelta(seconds=2)
CONNECTIONS: Final = 32

#: The share of the memory past which nothing is added to a server that evicts nothing.
SHARE: Final = 0.5
#: Seconds for which the last look at the memory is believed.
_BELIEVED: Final = 1.0

#: Server errors that pass by themselves: it loads, fails over, or cannot write its disk.
_PASSING: Final = (
    "LOADING",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "BUSY",
)


class SideRedisAway(Exception):
    """The server cannot be asked now; whether a write happened is not known."""


class SideRedisFull(SideRedisAway):
    """The server has no memory left; nothing was written."""


class Script:
    """A Lua script, known to the server by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        # SHA-1 is Redis's name for a script, not a protection.
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


class SideRedis:
    """Sends commands and scripts, once each, and says when the server is away."""

    def __init__(self, redis: Redis | None, *, clock: Callable[[], float] = monotonic) -> None:
        """Use this client. None: no server was configured, and it is always away."""
        self._redis = redis
        self._clock = clock
        self._is_full = False
        self._looked = -_BELIEVED

    @property
    def redis(self) -> Redis:
        """The client itself. Raises SideRedisAway when there is none."""
        if self._redis is None:
            raise SideRedisAway("no Redis is configured for it")
        return self._redis

    async def command(self, *words: Word) -> object:
        """Send one command; return the reply as redis-py parsed it. Raises SideRedisAway."""
        redis = self.redis
        try:
            return cast("object", await redis.execute_command(*words))  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        except NoScriptError:
            raise
        except OutOfMemoryError as error:
            raise SideRedisFull(str(error)) from error
        except ResponseError as error:
            if not str(error).startswith(_PASSING):
                raise
            raise SideRedisAway(str(error)) from error
        except (RedisError, OSError) as error:
            raise SideRedisAway(f"{type(error).__name__}: {error}") from error

    async def run(self, script: Script, keys: Sequence[Word], *arguments: Word) -> object:
        """Run a script; return its reply. Raises SideRedisAway."""
        words = (len(keys), *keys, *arguments)
        try:
            return await self.command("EVALSHA", script.digest, *words)
        except NoScriptError:
            return await self.command("EVAL", script.source, *words)

    async def check_space(self) -> None:
        """Raise SideRedisFull when what may be lost takes the space of what may not.

        A server that evicts looks after itself. One that does not may be the ledger's, which stops
        accepting tasks when its memory is nearly full: half of it is enough for us.
        """
        now = self._clock()
        if now - self._looked >= _BELIEVED:
            found = cast("Mapping[str, object]", await self.command("INFO", "memory"))
            limit = int(str(found.get("maxmemory", 0)))
            keeps = str(found.get("maxmemory_policy", "")) == "noeviction"
            self._is_full = bool(
                limit and keeps and int(str(found.get("used_memory", 0))) > limit * SHARE
            )
            self._looked = now
        if self._is_full:
            raise SideRedisFull("the server's memory is more than half full")

    async def close(self) -> None:
        """Close its connections."""
        if self._redis is not None:
            await self._redis.aclose()


def side_redis(url: str | None, *, client_name: str) -> SideRedis:
    """Return the server at a URL; it is dialled with the first command."""
    if url is None:
        return SideRedis(None)
    return SideRedis(
        connect(
            url,
            max_connections=CONNECTIONS,
            client_name=client_name,
            socket_timeout=SOCKET_TIMEOUT,
            connect_timeout=CONNECT_TIMEOUT,
            pool_timeout=POOL_TIMEOUT,
        )
    )
