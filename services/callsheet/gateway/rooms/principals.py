"""Whom keys stand for, asked once for all connections that come with a key at the same time."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from callsheet.gateway.plane import Plane
from callsheet.gateway.rooms.turns import Turns
from callsheet.v1.access_service_pb2 import Principal

#: How long an answer is believed: as long as control itself believes it.
BELIEVED: Final = timedelta(seconds=2)
#: Keys remembered at most; whichever was asked about longest ago is forgotten first.
REMEMBERED: Final = 1024


class Principals:
    """When a gateway is started anew, all its clients come back at once, most with few keys."""

    def __init__(self, plane: Plane, *, clock: Callable[[], float]) -> None:
        self._plane = plane
        self._clock = clock
        self._turns = Turns()
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    async def of(self, credential: str) -> Principal:
        """Return whom a key or ticket stands for. Raises CallError; Refused for what is no key."""
        async with self._turns.of(credential):
            known = self._known.get(credential)
            if known is not None and known[1] > self._clock():
                return known[0]
            self._known.pop(credential, None)
            principal = await self._plane.client(credential).principal()
            self._known[credential] = (principal, self._clock() + BELIEVED.total_seconds())
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return principal
