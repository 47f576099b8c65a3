"""Very many clients of one room at once: no more of a WebSocket than they need."""

import asyncio
import json
import struct
from typing import Final

from tests.support.gateways import RunningGateway

_TEXT: Final = 1
_PING: Final = 9
_PONG: Final = 10
_HEAD_END: Final = b"\r\n\r\n"


class Onlooker(asyncio.Protocol):
    """Joins one room and notes the sequences it is told, until it is told that it has left."""

    def __init__(self, gateway: RunningGateway, room: str) -> None:
        self._gateway = gateway
        self._room = room
        self._received = bytearray()
        self._is_open = False
        self._sequences: list[int] = []
        loop = asyncio.get_running_loop()
        #: Done when it is in the room.
        self.joined: asyncio.Future[None] = loop.create_future()
        #: The sequences, in the order they came.
        self.told: asyncio.Future[list[int]] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: {self._gateway.host}\r\nX-API-Key: {self._gateway.key}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Read every message that is there as a whole."""
        self._received += data
        if not self._is_open:
            head, end, rest = self._received.partition(_HEAD_END)
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), bytes(head)
            self._received, self._is_open = rest, True
        while (frame := self._frame()) is not None:
            opcode, content = frame
            if opcode == _TEXT:
                self._hear(content)
            elif opcode == _PING:
                self._say(content, opcode=_PONG)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that nothing more will come."""
        self._fail(exc or ConnectionError(f"the gateway hung up after {self._received!r}"))

    def _frame(self) -> tuple[int, bytes] | None:
        """Take one whole frame off what was received."""
        content = self._received
        if len(content) < 2:
            return None
        start, length = 2, content[1]
        if length == 126:
            if len(content) < 4:
                return None
            start, length = 4, struct.unpack_from(">H", content, 2)[0]
        assert length < 2**16, "longer than a test's envelope"
        if len(content) < start + length:
            return None
        frame = content[0] & 0x0F, bytes(content[start : start + length])
        del content[: start + length]
        return frame

    def _hear(self, text: bytes) -> None:
        envelope = json.loads(text)
        match envelope["type"]:
            case "WELCOME":
                self._say(json.dumps({"type": "JOIN", "room": self._room}).encode())
            case "JOINED":
                self.joined.set_result(None)
            case "TASK_UPDATE":
                self._sequences.append(envelope["sequence"])
            case "LEFT":
                self.told.set_result(self._sequences)
                self._transport.close()
            case other:
                self._fail(AssertionError(f"{other}: {text!r}"))

    def _fail(self, error: Exception) -> None:
        for waited in (self.joined, self.told):
            if not waited.done():
                waited.set_exception(error)

    def _say(self, content: bytes, *, opcode: int = _TEXT) -> None:
        # Masked with zeros, which leaves it as it is.
        self._transport.write(bytes([0x80 | opcode, 0x80 | len(content)]) + bytes(4) + content)
