"""One WebSocket as the two streams that an MCP server runs on, what is in flight bounded."""

import asyncio
from typing import Final

from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse
from websockets.asyncio.server import ServerConnection

from callsheet.brain.streams import Reading, Writing

#: Requests of one connection that are answered at the same time; the next one is not read before.
MOST_IN_FLIGHT: Final = 64


def mcp_streams(socket: ServerConnection) -> tuple[Reading, Writing]:
    """Return what the client says, and what is said to it.

    A client that asks faster than it is answered is not read from; one that does not read its
    answers is let go.
    """
    room = asyncio.Semaphore(MOST_IN_FLIGHT)
    return _Admitting(socket, room), _Releasing(socket, room)


class _Admitting(Reading):
    def __init__(self, socket: ServerConnection, room: asyncio.Semaphore) -> None:
        super().__init__(socket)
        self._room = room

    async def receive(self) -> SessionMessage | Exception:
        received = await super().receive()
        if not isinstance(received, SessionMessage):
            return received
        if not isinstance(received.message, JSONRPCRequest):
            return received
        await self._room.acquire()
        # A request that its client cancels is never answered.
        released = ServerMessageMetadata(on_request_unanswered=self._release)
        return SessionMessage(received.message, released)

    async def _release(self) -> None:
        self._room.release()


class _Releasing(Writing):
    def __init__(self, socket: ServerConnection, room: asyncio.Semaphore) -> None:
        super().__init__(socket)
        self._room = room

    async def send(self, item: SessionMessage, /) -> None:
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._room.release()
        await super().send(item)
