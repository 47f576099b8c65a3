"""The seam between a role and the ledger's server, where a role's k-th request is struck."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from callsheet.ledger.redis_connection import RedisConnection, Word

#: What a blocking command is told instead of its own timeout: nobody else acts meanwhile.
_MOMENT_SECONDS: Final = "0.001"
_MOMENT_MILLISECONDS: Final = 1


class Mode(Enum):
    """What befalls a role at its k-th request."""

    #: The connection breaks before the server sees the request.
    CUT_BEFORE = "cut before"
    #: The request is executed, and the connection breaks instead of the reply.
    CUT_AFTER = "cut after"
    #: The process ends before the server sees the request.
    DIE_BEFORE = "die before"
    #: The request is executed, and the process ends before the reply comes.
    DIE_AFTER = "die after"
    #: As DIE_AFTER, by SIGKILL to the very process that this runs in.
    KILL = "kill"

    def slug(self) -> str:
        """Return the mode's name in a test's."""
        return self.value.replace(" ", "-")

    @property
    def is_death(self) -> bool:
        """Whether the role's process ends."""
        return self in {Mode.DIE_BEFORE, Mode.DIE_AFTER, Mode.KILL}

    @property
    def is_executed(self) -> bool:
        """Whether the server executes the request."""
        return self in {Mode.CUT_AFTER, Mode.DIE_AFTER, Mode.KILL}


@dataclass(frozen=True)
class Point:
    """The k-th request of a role, counted from 1, and what befalls it."""

    role: str
    number: int
    mode: Mode
    #: Whether connections repeat requests for as long as the role's process lets them.
    is_patient: bool = True

    def __str__(self) -> str:
        """Return how a report names the point."""
        return f"{self.role} {self.mode.value} {self.number}"


class Meter:
    """Counts the requests of one role, over all its instances, and strikes once."""

    def __init__(self, point: Point | None) -> None:
        self.requests: list[str] = []
        self.has_struck = False
        self._point = point

    def next(self, words: tuple[Word, ...]) -> Mode | None:
        """Count a request; return what befalls it."""
        self.requests.append(str(words[0]))
        point = self._point
        if point is None or self.has_struck or len(self.requests) != point.number:
            return None
        self.has_struck = True
        return point.mode


class Seam:
    """One instance's way to the server: the `execute_command` of a Redis client.

    *is_idle* is asked after each reply whether the instance has nothing more to do by now.
    A wait of *parks_from* or longer for what only others could bring means so, too.
    """

    def __init__(self, redis: Redis, meter: Meter, *, parks_from: timedelta) -> None:
        self.died = asyncio.Event()
        self.idle = asyncio.Event()
        self.is_idle: Callable[[object], Awaitable[bool]] | None = None
        self._redis = redis
        self._meter = meter
        self._parks_from = parks_from
        self._is_buried = asyncio.Event()

    def connection(self, *, patience: timedelta) -> RedisConnection:
        """Return the connection that the role's stores are made on."""
        return RedisConnection(cast("Redis", self), patience=patience)

    def bury(self) -> None:
        """Let what the dead instance still runs come to its end: it reaches nothing any more."""
        self.died.set()
        self._is_buried.set()

    async def execute_command(self, *words: Word) -> object:
        """Send one request, unless fate has something else in store."""
        if self.died.is_set():
            raise RedisConnectionError("the process is dead")
        mode = self._meter.next(words)
        if mode is not None and not mode.is_executed:
            await self._break(mode)
        reply, parks = await self._send(words)
        if mode is not None:
            await self._break(mode)
        if parks or (self.is_idle is not None and await self.is_idle(reply)):
            self.idle.set()
        if parks:
            await self._is_buried.wait()
        return reply

    async def _break(self, mode: Mode) -> None:
        if mode is Mode.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if mode.is_death:
            self.died.set()
            await self._is_buried.wait()
        raise RedisConnectionError(f"struck: {mode.value}")

    async def _send(self, words: tuple[Word, ...]) -> tuple[object, bool]:
        """Return the reply, and whether the instance would now wait for others."""
        sent, patience = _at_once(words)
        reply = cast("object", await self._redis.execute_command(*sent))  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        return reply, not reply and patience is not None and patience >= self._parks_from


def _at_once(words: tuple[Word, ...]) -> tuple[tuple[Word, ...], timedelta | None]:
    """Return the request without its wait, and how long that was; None: it has none."""
    match words:
        case ("BLPOP", *_, str(seconds)):
            return (*words[:-1], _MOMENT_SECONDS), timedelta(seconds=float(seconds))
        case ("XREAD", "COUNT", _, "BLOCK", int(milliseconds), *rest):
            sent = (*words[:4], _MOMENT_MILLISECONDS, *rest)
            return sent, timedelta(milliseconds=milliseconds)
        case _:
            return words, None
