"""Looks after open connections: which still live, and whose key still holds."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.client.errors import CallError, Unauthenticated
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused
from callsheet.gateway.renewal import ends_soon
from callsheet.gateway.rooms.envelope import encode
from callsheet.gateway.rooms.limits import CloseCode, RoomLimits
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.peers import Peers
from callsheet.gateway.rooms.rooms import Rooms
from callsheet.v1.access_service_pb2 import Principal

#: How often it looks for silent connections, at most.
_LOOK: Final = timedelta(seconds=1)
#: Keys asked about at the same time.
_AT_ONCE: Final = 16
_PING: Final = encode("PING")

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Caretaker:
    """One for all connections: a timer for each would cost more than it tells."""

    def __init__(
        self,
        plane: Plane,
        peers: Peers,
        rooms: Rooms,
        limits: RoomLimits,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._plane = plane
        self._peers = peers
        self._rooms = rooms
        self._limits = limits
        self._clock = clock

    async def run(self) -> None:
        """Look after them, for ever."""
        async with asyncio.TaskGroup() as duties:
            duties.create_task(self._listen())
            duties.create_task(self._check_keys())

    def look(self) -> None:
        """Ask the quiet ones for a sign of life, and end those that have been silent too long."""
        now = self._clock()
        heartbeat = self._limits.heartbeat.total_seconds()
        silence = self._limits.silence.total_seconds()
        for peer in self._peers:
            if now - peer.heard > silence:
                peer.outbox.close(CloseCode.SILENT, "nothing was heard for too long")
            elif now - max(peer.heard, peer.pinged) >= heartbeat:
                peer.pinged = now
                peer.outbox.put_signal(_PING, room="")

    async def check(self) -> None:
        """Ask once whether each key in use still holds, and what it allows now."""
        credentials = self._peers.credentials()
        for start in range(0, len(credentials), _AT_ONCE):
            await asyncio.gather(*map(self._check, credentials[start : start + _AT_ONCE]))

    async def _listen(self) -> None:
        pause = min(_LOOK, self._limits.heartbeat / 4)
        while True:
            await asyncio.sleep(pause.total_seconds())
            self.look()

    async def _check_keys(self) -> None:
        while True:
            await asyncio.sleep(self._limits.key_check.total_seconds())
            await self.check()

    async def _check(self, credential: str) -> None:
        try:
            principal = await self._plane.client(credential).principal()
        except (Unauthenticated, Refused):
            peers = self._peers.of_credential(credential)
            _log.info("peers_unauthenticated", peers=len(peers))
            for peer in peers:
                peer.outbox.close(
                    CloseCode.UNAUTHENTICATED, "the key was revoked, or the ticket has expired"
                )
        except CallError:
            pass  # nobody knows now; it is asked again
        else:
            for peer in self._peers.of_credential(credential):
                self._update(peer, principal)
                if ends_soon(principal):
                    peer.outbox.close(
                        CloseCode.GOING_AWAY, "the ticket ends soon: come back with the next one"
                    )

    def _update(self, peer: Peer, principal: Principal) -> None:
        projects = frozenset(principal.projects)
        peer.roles = frozenset(principal.roles)
        lost = peer.projects - projects
        if projects != peer.projects:
            self._peers.belongs(peer, projects)
        if lost:
            self._rooms.leave_all(peer, of=lost)
