"""A role's process: made, at work for a turn, dead at the point, and made anew."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from callsheet.ledger.redis_connection import RedisConnection
from tests.chaos.sweep.seam import Meter, Point, Seam
from tests.chaos.sweep.world import World

Instance = TypeVar("Instance")

#: Makes a role's process: from its connection, its name, and the seam it is watched at.
Make = Callable[[RedisConnection, str, Seam], Instance]

TURN_SECONDS: Final = 60


class Role(Generic[Instance]):
    """One role; *patience* is its connections', and *holds* names the roles it takes in the cell.

    A wait for others of *parks_from* or longer ends its turn.
    """

    def __init__(
        self,
        world: World,
        name: str,
        make: Make[Instance],
        *,
        point: Point | None,
        patience: timedelta = timedelta(0),
        parks_from: timedelta = timedelta(days=1),
        holds: tuple[str, ...] = (),
    ) -> None:
        mine = point if point is not None and point.role == name else None
        self.name = name
        self.meter = Meter(mine)
        self._world = world
        self._make = make
        self._patience = patience if mine is None or mine.is_patient else timedelta(0)
        self._parks_from = parks_from
        self._holds = holds
        self._instance: tuple[Seam, Instance] | None = None
        self._made = 0

    @property
    def instance(self) -> Instance | None:
        """The process that lives, if any."""
        return None if self._instance is None else self._instance[1]

    async def restart(self) -> None:
        """Let the next turn be that of a new process; the old one has ended in order."""
        self._instance = None
        await self._world.expire_roles(*self._holds)

    async def turn(self, work: Callable[[Instance, Seam], Awaitable[None]]) -> bool:
        """Let the role work until its work is done; False: its process died."""
        seam, instance = self._instance or self._begin()
        seam.idle.clear()
        working = asyncio.ensure_future(work(instance, seam))
        dying = asyncio.ensure_future(seam.died.wait())
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dying.cancel()
            if not working.done():
                seam.bury()
                working.cancel()
                await asyncio.wait({working})
        if not seam.died.is_set():
            working.result()
            return True
        seam.bury()
        self._instance = None
        await self._world.expire_roles(*self._holds)
        return False

    def _begin(self) -> tuple[Seam, Instance]:
        self._made += 1
        seam = Seam(self._world.redis, self.meter, parks_from=self._parks_from)
        connection = seam.connection(patience=self._patience)
        instance = self._make(connection, f"{self.name}{self._world.generation}-{self._made}", seam)
        self._instance = seam, instance
        return self._instance


async def until_idle(run: Callable[[asyncio.Event], Awaitable[None]], seam: Seam) -> None:
    """Run a loop until it has nothing more to do, then stop it and wait until it has."""
    stop = asyncio.Event()
    running = asyncio.ensure_future(run(stop))
    waiting = asyncio.ensure_future(seam.idle.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await running
    finally:
        for each in (running, waiting):
            each.cancel()
        await asyncio.wait({running, waiting})
