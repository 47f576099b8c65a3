"""A WebSocket as the MCP SDK's two streams: one JSON-RPC message in each text frame.

Both sides of a connection use them; who made the connection closes it.
"""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from callsheet.brain.errors import MessageTooLarge

#: The largest message either side may send.
MESSAGE_BYTES: Final = 16 * 2**20
#: How the protocol is asked for in the WebSocket's handshake.
SUBPROTOCOL: Final = "mcp"

#: How long a message may stay in our own buffers. Pings do not notice who reads no more while
#: these are full: they wait in them too.
_WRITE_LIMIT: Final = timedelta(seconds=10)
#: The same for what nobody waits for, such as the word that a call was given up.
_NOTE_LIMIT: Final = timedelta(milliseconds=100)


class _Stream:
    def __init__(self, socket: Connection) -> None:
        self._socket = socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        return

    async def aclose(self) -> None:
        """Do nothing: the socket is not the stream's to close."""


class Reading(_Stream):
    """What the other side says; ends when the connection does."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message, or what is wrong with it: one bad frame does not end it all.

        Raises:
            anyio.EndOfStream: the connection has ended.
        """
        try:
            frame = await self._socket.recv()
        except ConnectionClosed:
            raise anyio.EndOfStream from None
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(frame, by_name=False))
        except ValidationError as error:
            return error


class Writing(_Stream):
    """What is said to the other side."""

    async def send(self, item: SessionMessage, /) -> None:
        """Send one message; return when the socket has taken it.

        Raises:
            MessageTooLarge: it is larger than a message may be; nothing was sent.
            anyio.BrokenResourceError: the connection has ended, or ends now, for the other side
                has read nothing for 10 seconds.
        """
        content = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        if len(content) > MESSAGE_BYTES:
            raise MessageTooLarge(len(content), MESSAGE_BYTES)
        is_note = isinstance(item.message, JSONRPCNotification)
        limit = _NOTE_LIMIT if is_note else _WRITE_LIMIT
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._socket.send(content, text=True)
        except TimeoutError:
            if not is_note:
                self._socket.transport.abort()
                raise anyio.BrokenResourceError from None
        except ConnectionClosed:
            raise anyio.BrokenResourceError from None
