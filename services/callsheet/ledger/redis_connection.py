"""Commands and scripts on Redis, with its errors translated and its patience bounded."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta
from hashlib import sha1
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from callsheet.ledger.errors import LedgerFull, LedgerUnavailable

#: What a command may consist of.
Word = str | bytes | int

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
_FIRST_WAIT: Final = timedelta(milliseconds=20)
_LONGEST_WAIT: Final = timedelta(seconds=1)


class RedisConnection:
    """Sends what the stores ask for; repeats what is safe to repeat while patience lasts.

    Every script is safe to repeat: commits and claims by their operation ids, the others by what
    they do. *redis* must not retry by itself.
    """

    def __init__(self, redis: Redis, *, patience: timedelta = timedelta(0)) -> None:
        self.redis = redis
        self._patience = patience

    async def command(self, *words: Word) -> object:
        """Send one command; return the reply as redis-py parsed it."""
        clock = asyncio.get_running_loop().time
        started = clock()
        for wait in _waits(self._patience):
            try:
                return await _execute(self.redis, *words)
            except (RedisError, OSError) as error:
                unavailable = _translated(error)
                # A server that hangs spends the patience in its first try.
                spent = timedelta(seconds=clock() - started)
                if wait is None or spent > self._patience:
                    raise unavailable from error
            await asyncio.sleep(wait.total_seconds())
        raise AssertionError("the last wait is None")

    async def script(
        self, source: str, keys: Sequence[Word], arguments: Sequence[Word]
    ) -> list[object]:
        """Run a script; return its reply, an array."""
        words = (len(keys), *keys, *arguments)
        try:
            reply = await self.command("EVALSHA", _digest(source), *words)
        except _ScriptMissing:
            # Not loaded first and run then: the server may be emptied, or start anew, in between.
            reply = await self.command("EVAL", source, *words)
        return cast("list[object]", reply)

    async def number(self, source: str, keys: Sequence[Word], arguments: Sequence[Word]) -> int:
        """Run a script whose reply is a number."""
        return cast("int", await self.script(source, keys, arguments))

    async def published(self, channel: str) -> AsyncGenerator[bytes, None]:
        """Yield what is published there until closed.

        Raises LedgerUnavailable when the link breaks.
        """
        pubsub = self.redis.pubsub(  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves its options untyped
            ignore_subscribe_messages=True
        )
        try:
            async with pubsub:
                await pubsub.subscribe(channel)
                while True:
                    message = cast("dict[str, bytes] | None", await pubsub.get_message(timeout=5.0))
                    if message is not None:
                        yield message["data"]
        except (RedisError, OSError) as error:
            raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error


async def _execute(redis: Redis, *words: Word) -> object:
    reply = await redis.execute_command(*words)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # redis-py leaves replies untyped
    return cast("object", reply)


class _ScriptMissing(Exception):
    """The server does not know the script: it is new, or was emptied."""


_digests: Final[dict[str, str]] = {}


def _digest(source: str) -> str:
    # SHA-1 is Redis's name for a script, not a protection.
    found = _digests.get(source)
    if found is None:
        found = _digests[source] = sha1(source.encode(), usedforsecurity=False).hexdigest()
    return found


def _waits(patience: timedelta) -> Iterator[timedelta | None]:
    """Yield how long to wait after each failed try; None after the last."""
    spent, wait = timedelta(0), _FIRST_WAIT
    while spent < patience:
        yield wait
        spent += wait
        wait = min(2 * wait, _LONGEST_WAIT)
    yield None


def _translated(error: Exception) -> LedgerUnavailable:
    """Return the passing kind of error; raise what waiting does not mend."""
    match error:
        case NoScriptError():
            raise _ScriptMissing from error
        case OutOfMemoryError():
            raise LedgerFull(0, 0) from error
        case RedisConnectionError() | RedisTimeoutError() | ReadOnlyError() | OSError():
            return LedgerUnavailable(f"{type(error).__name__}: {error}")
        case ResponseError() if str(error).startswith(_PASSING):
            return LedgerUnavailable(str(error))
        case _:
            raise error
