"""What the gateway keeps beside the ledger: rooms and conversations."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.routing import BaseRoute

from callsheet.gateway.conversations.routes import Conversations
from callsheet.gateway.conversations.running import conversations
from callsheet.gateway.plane import Plane
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.running import RunningRooms, running_rooms
from callsheet.gateway.side_redis import SideRedis, side_redis
from callsheet.runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Rooms and conversations of a running gateway."""

    rooms: RunningRooms
    conversations: Conversations
    #: The Redis of each role.
    sessions: SideRedis
    cache: SideRedis

    def routes(self) -> list[BaseRoute]:
        """Return the routes of both."""
        return [*self.rooms.routes(), *self.conversations.routes()]


@asynccontextmanager
async def running_beside(
    settings: Settings, plane: Plane, *, room_limits: RoomLimits | None = None
) -> AsyncGenerator[Beside]:
    """Yield rooms and conversations; their Redis need not be there.

    *room_limits* are those of the settings unless they are given.
    """
    sessions_url = settings.sessions_redis(settings.redis_url)
    cache_url = settings.cache_redis(settings.redis_url)
    sessions = side_redis(sessions_url, client_name="callsheet-sessions")
    cache = side_redis(cache_url, client_name="callsheet-cache")
    try:
        async with running_rooms(settings, plane, sessions, limits=room_limits) as rooms:
            talks = conversations(settings, plane, sessions, cache)
            yield Beside(rooms=rooms, conversations=talks, sessions=sessions, cache=cache)
    finally:
        await sessions.close()
        await cache.close()
