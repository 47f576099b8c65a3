"""A virtual clock, actors that take turns by chance, and a network that loses and repeats."""

import heapq
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count
from random import Random  # noqa: TID251  # for its type alone: the dice come in as an argument
from typing import Any, Final, TypeVar

from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.instants import span

Answer = TypeVar("Answer")
Steps = Coroutine[Any, Any, None]

#: How often a request is repeated as it is before its caller is told; workers hardly ever give up.
TRIES: Final = 3
WORKER_TRIES: Final = 10_000
#: The longest way of a request, or of a reply.
LATENCY: Final = timedelta(seconds=20)


@dataclass(frozen=True)
class Sleep:
    """Awaited by an actor, it gives the turn away for so many microseconds."""

    length: int

    def __await__(self) -> Generator["Sleep", None, None]:
        """Give the turn away."""
        yield self


class Clockwork:
    """Runs actors, one step at a time, each when its time has come; chance breaks ties."""

    def __init__(self, dice: Random) -> None:
        self.now = 1_800_000_000_000_000
        self.dice = dice
        #: Called after each step.
        self.look: Callable[[], None] = lambda: None
        self.steps = 0
        self._turns: list[tuple[int, float, int, Steps]] = []
        self._number = count()

    def clock(self) -> int:
        """Return the time in microseconds; no two looks see the same."""
        self.now += 1
        return self.now

    def start(self, actor: Steps, *, after: int = 0) -> None:
        """Let an actor have its first turn after a while."""
        turn = (self.now + after, self.dice.random(), next(self._number), actor)
        heapq.heappush(self._turns, turn)

    def run(self, until: Callable[[], bool]) -> None:
        """Give turns until it is so; raises AssertionError when nobody has any left."""
        while not until():
            assert self._turns, "nobody has anything left to do"
            time, _, _, actor = heapq.heappop(self._turns)
            self.now = max(self.now, time)
            self.steps += 1
            try:
                slept: Sleep = actor.send(None)
            except StopIteration:
                pass
            else:
                self.start(actor, after=slept.length)
            self.look()

    def close(self) -> None:
        """End every actor."""
        for _, _, _, actor in self._turns:
            actor.close()
        self._turns.clear()


@dataclass
class Process:
    """What an actor runs in: it may be paused, and so be late for whatever it holds."""

    name: str
    #: How much more often than others it is paused.
    drowsiness: int = 1
    #: Spans in which it did nothing, as (start, end).
    pauses: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    died_at: int | None = None

    def was_away(self, since: int, until: int) -> bool:
        """Whether it was paused or dead at any time in between."""
        if self.died_at is not None and self.died_at <= until:
            return True
        return any(start < until and end > since for start, end in self.pauses)


@dataclass
class Weather:
    """How bad it is. An outage is a span in which the server answers nobody."""

    lost: float = 0.03
    repeated: float = 0.02
    paused: float = 0.003
    longest_pause: timedelta = timedelta(hours=3)
    outages: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def is_out(self, time: int) -> bool:
        """Whether the server is away."""
        return any(start <= time < end for start, end in self.outages)

    def heal(self, time: int) -> None:
        """Let it be fair from that time on."""
        self.lost = self.repeated = self.paused = 0.0
        self.outages = [(start, min(end, time)) for start, end in self.outages if start < time]


class Far:
    """Something on the other side of the network: each of its methods is a request."""

    def __init__(self, near: object, carry: "Carrier") -> None:
        self._near = near
        self._carry = carry

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return the method as it is called from afar."""
        method = getattr(self._near, name)

        def call(*words: Any, **named: Any) -> Awaitable[Any]:  # noqa: ANN401  # whatever the method takes
            return self._carry.carried(partial(method, *words, **named), name)

        return call


class Carrier:
    """Carries the requests of one process, and loses or repeats some."""

    def __init__(
        self, clockwork: Clockwork, weather: Weather, process: Process, *, tries: int = TRIES
    ) -> None:
        self._tries = tries
        self._clockwork = clockwork
        self._weather = weather
        self.process = process

    async def carried(self, request: Callable[[], Awaitable[Answer]], name: str) -> Answer:
        """Return the answer, after as many tries as a connection makes; else LedgerUnavailable."""
        for _ in range(self._tries):
            await self._way()
            if not self._is_lost():
                answer = await request()
                if self._happens(self._weather.repeated):
                    answer = await self._again(request, answer, name)
                await self._way()
                if not self._is_lost():
                    await self._perhaps_pause()
                    return answer
        raise LedgerUnavailable("lost on its way")

    async def _again(
        self, request: Callable[[], Awaitable[Answer]], answer: Answer, name: str
    ) -> Answer:
        """Execute a request twice: at once, or a copy of a commit also when its caller went on."""
        if name != "commit":
            return await request()

        async def late() -> None:
            await request()

        self._clockwork.start(late(), after=self._clockwork.dice.randrange(20 * span(LATENCY)))
        return answer

    async def _way(self) -> None:
        await Sleep(self._clockwork.dice.randrange(span(LATENCY)))

    async def _perhaps_pause(self) -> None:
        if self._happens(self._weather.paused * self.process.drowsiness):
            length = self._clockwork.dice.randrange(span(self._weather.longest_pause))
            now = self._clockwork.now
            self.process.pauses.append((now, now + length))
            await Sleep(length)

    def _is_lost(self) -> bool:
        is_out = self._weather.is_out(self._clockwork.now)
        return is_out or self._happens(self._weather.lost)

    def _happens(self, chance: float) -> bool:
        return self._clockwork.dice.random() < chance
