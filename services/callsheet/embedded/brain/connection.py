"""A connection that may also carry one plain HTTP request with a body.

websockets reads WebSocket handshakes, and so no bodies. Here a small body is taken off before the
head of its request goes to websockets, which then lets it be answered like any other. All its
limits of time and size hold for such a request too.
"""

import asyncio
import re
from typing import ClassVar, Final

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

LARGEST_BODY_BYTES: Final = 256 * 1024

_LARGEST_HEAD_BYTES: Final = 32 * 1024
_END_OF_HEAD: Final = b"\r\n\r\n"
_CONTENT_LENGTH: Final = re.compile(
    rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE
)


class BrainConnection(ServerConnection):
    """A server's side of a connection.

    *body* is that of its request: empty when there was none, None when it was too large to read.
    *most* are there at a time, clients and whoever has only just come.
    """

    most: ClassVar[int] = 256
    body: bytes | None = b""
    _first: bytearray | None = None
    _expected: int | None = None
    _is_answered_once: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        self._first = bytearray()
        if len(self.server.handler_tasks) > self.most:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came off the wire."""
        if self._is_answered_once:
            return  # the rest of a body, or another request: the answer ends the connection
        if self._first is None:
            # Nobody has to say anything before the answer; websockets would answer that instead.
            if self.protocol.state is not State.CONNECTING:
                super().data_received(data)
            return
        looked_at = max(0, len(self._first) - len(_END_OF_HEAD))
        self._first += data
        if self._expected is None:
            self._read_head(self._first, looked_at)
        elif len(self._first) >= self._expected:
            self._read_body(self._first, self._expected)

    def _read_head(self, first: bytearray, looked_at: int) -> None:
        end = first.find(_END_OF_HEAD, looked_at)
        if end < 0:
            if len(first) > _LARGEST_HEAD_BYTES:
                self._hand_over(bytes(first))  # websockets refuses it in the right words
            return
        length = _CONTENT_LENGTH.search(first, 0, end + len(_END_OF_HEAD))
        wanted = int(length[1]) if length is not None else 0
        self._expected = end + len(_END_OF_HEAD) + wanted
        if wanted == 0:
            self._hand_over(bytes(first[: self._expected]))
        elif wanted > LARGEST_BODY_BYTES:
            self.body = None
            self._hand_over(_without_length(bytes(first[: self._expected - wanted])))
            self._is_answered_once = True
        elif len(first) >= self._expected:
            self._read_body(first, self._expected)

    def _read_body(self, first: bytearray, expected: int) -> None:
        head, _, rest = bytes(first[:expected]).partition(_END_OF_HEAD)
        self.body = rest
        self._hand_over(_without_length(head + _END_OF_HEAD))
        self._is_answered_once = True

    def _hand_over(self, head: bytes) -> None:
        self._first = None
        super().data_received(head)


def _without_length(head: bytes) -> bytes:
    return _CONTENT_LENGTH.sub(b"", head, count=1)
