"""Whom keys stand for, asked once for all connections that come with a key at the same time."""

from callsheet.gateway.plane import Plane
from callsheet.gateway.rooms.turns import Turns
from callsheet.v1.access_service_pb2 import Principal


class Principals:
    """When a gateway is started anew, all its clients come back at once, most with few keys."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._turns = Turns()

    async def of(self, credential: str) -> Principal:
        """Return whom a key or ticket stands for. Raises CallError; Refused for what is no key."""
        async with self._turns.of(credential):
            # The plane remembers the answer for those who waited, and that the key is known.
            return await self._plane.principal(credential)
