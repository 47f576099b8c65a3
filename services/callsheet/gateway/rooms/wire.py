"""One WebSocket on its socket: uvicorn's, but that a peer which reads nothing costs nothing."""

from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import structlog
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from callsheet.gateway.rooms.rate import Bucket

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

#: In scope["state"]: closes the connection at once, whatever still waits to be sent.
ABORT: Final = "callsheet.abort"

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


#: Frames of one connection a second in the long run, and at once; who sends more is cut off.
FRAMES_PER_SECOND: Final = 200
FRAMES_AT_ONCE: Final = 1000
#: Bytes that are looked at before frames are counted again: an empty one has six.
_SLICE: Final = 2048


class Wire(WebSocketsSansIOProtocol):
    """Reads no more of a peer that takes nothing, and lets no goodbye last for ever.

    A ping is answered at once: a peer that sends them and reads no answer would fill the memory.
    A transport that is closed waits until all was sent, which a dead peer never takes. And frames
    that hold nothing cost much more to read than to send: a stream of them would stop all others.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to count frames."""
        super().connection_made(transport)
        self._frames = Bucket(
            per_second=FRAMES_PER_SECOND, burst=FRAMES_AT_ONCE, now=self.loop.time()
        )

    def data_received(self, data: bytes) -> None:
        """Read what came, in portions, for as long as the peer keeps to its measure."""
        for start in range(0, len(data), _SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _SLICE])

    def handle_events(self) -> None:
        """Act on the frames of one portion, unless they are too many."""
        count = len(self.conn.events)
        if self._frames.take(self.loop.time(), count=count) is not None:
            _log.warning("peer_flooded", frames=count)
            self.transport.abort()
            return
        super().handle_events()

    def handle_connect(self, event: Request) -> None:
        """Begin a connection; the application may abort it."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope.setdefault("state", {})[ABORT] = self.transport.abort

    def pause_writing(self) -> None:
        """Read nothing while the peer takes nothing."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on, unless the application has not taken what was read."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        """End a connection whose peer did not answer a ping."""
        super().keepalive_timeout()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    async def receive(self) -> "ASGIReceiveEvent":
        """Return what comes next; while the peer takes nothing, nothing more is read."""
        event = await super().receive()
        if not self.writable.is_set() and not self.disconnected:
            self.transport.pause_reading()
        return event

    async def send(self, message: "ASGISendEvent") -> None:
        """Send what the application says; after a goodbye, hang up in bounded time."""
        await super().send(message)
        if message["type"] == "websocket.close":
            self.loop.call_later(self.close_timeout, self.transport.abort)


def abort(socket: WebSocket) -> None:
    """Close the connection at once."""
    cast("Callable[[], None]", socket.scope["state"][ABORT])()
