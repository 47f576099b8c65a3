"""Puts the rooms together, and runs what they need."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Final, cast

import structlog
from starlette.routing import BaseRoute

from callsheet.gateway.plane import Plane
from callsheet.gateway.rooms.caretaker import Caretaker
from callsheet.gateway.rooms.door import Door
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.line import RoomLine
from callsheet.gateway.rooms.peers import Peers
from callsheet.gateway.rooms.publishing import Publishing
from callsheet.gateway.rooms.rooms import Rooms
from callsheet.gateway.rooms.shared_rooms import SharedRooms
from callsheet.gateway.side_redis import SideRedis
from callsheet.runtime.settings import Settings

#: The pause before duties that failed begin anew.
_PAUSE: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRooms:
    """The rooms of a running gateway."""

    rooms: Rooms
    peers: Peers
    caretaker: Caretaker
    door: Door

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the rooms."""
        return self.door.routes()


def room_limits(settings: Settings) -> RoomLimits:
    """Return the limits that the settings ask for."""
    return RoomLimits(
        connections=settings.rooms_connections,
        connections_per_key=settings.rooms_connections_per_key,
        tasks_watched=settings.rooms_tasks,
        messages_per_second=settings.rooms_messages_per_second,
        heartbeat=settings.rooms_heartbeat,
    )


@asynccontextmanager
async def running_rooms(
    settings: Settings,
    plane: Plane,
    sessions: SideRedis,
    *,
    limits: RoomLimits | None = None,
    clock: Callable[[], float] = monotonic,
) -> AsyncGenerator[RunningRooms]:
    """Yield rooms that are told what happens, and end them; neither Redis nor plane need be there.

    *limits* are those of the settings unless they are given.
    """
    chosen = limits or room_limits(settings)
    peers = Peers(chosen)
    line = RoomLine(sessions, cell=settings.cell, limits=chosen)
    shared = SharedRooms(line, peers, chosen)
    rooms = Rooms(plane, shared, chosen)
    caretaker = Caretaker(plane, peers, rooms, chosen, clock=clock)
    door = Door(plane, peers, rooms, Publishing(line, chosen), chosen, clock=clock)
    duties = asyncio.create_task(_do_duties(shared, caretaker))
    try:
        yield RunningRooms(rooms=rooms, peers=peers, caretaker=caretaker, door=door)
    finally:
        duties.cancel()
        rooms.close()
        await asyncio.wait({duties}, timeout=_PAUSE.total_seconds())


async def _do_duties(shared: SharedRooms, caretaker: Caretaker) -> None:
    """Hear what is published and look after connections, for ever; a defect begins them anew."""
    while True:
        try:
            async with asyncio.TaskGroup() as duties:
                duties.create_task(shared.run())
                duties.create_task(caretaker.run())
        except Exception:  # noqa: BLE001  # whatever it is, connections must be looked after
            _log.exception("room_duties_failed")
        await asyncio.sleep(_PAUSE.total_seconds())
