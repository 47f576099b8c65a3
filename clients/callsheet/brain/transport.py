"""The MCP SDK's transport over a WebSocket that this side opens."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.protocol import State
from websockets.typing import Subprotocol

from callsheet.brain.streams import MESSAGE_BYTES, SUBPROTOCOL, Reading, Writing

_CLOSE_LIMIT: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Dialling:
    """How a brain is reached."""

    url: str
    #: Sent as a bearer token. Empty: none is.
    token: str = ""
    #: A PEM file of the authorities that vouch for it. None: the system's.
    ca_file: Path | None = None
    #: How long connecting may take.
    open_limit: timedelta = timedelta(seconds=10)
    #: How often a connection is asked whether it lives.
    ping_every: timedelta = timedelta(seconds=10)
    #: How long it may take to say so.
    ping_limit: timedelta = timedelta(seconds=10)


class WebSocketTransport:
    """One connection to a brain, entered once by the SDK's client.

    Entering raises OSError (of which TLS errors are one kind), TimeoutError, or websockets'
    InvalidHandshake; leaving takes a second at most.
    """

    def __init__(self, dialling: Dialling, *, tls: ssl.SSLContext | None) -> None:
        self._dialling = dialling
        self._tls = tls
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> tuple[Reading, Writing]:
        dialling = self._dialling
        told = {"Authorization": f"Bearer {dialling.token}"} if dialling.token else None
        self._socket = await connect(
            dialling.url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=told,
            proxy=None,
            compression=None,  # costs more than it saves between neighbours
            max_size=MESSAGE_BYTES,
            open_timeout=dialling.open_limit.total_seconds(),
            ping_interval=dialling.ping_every.total_seconds(),
            ping_timeout=dialling.ping_limit.total_seconds(),
            close_timeout=_CLOSE_LIMIT.total_seconds(),
            ssl=self._tls,
        )
        return Reading(self._socket), Writing(self._socket)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        socket = self._socket
        if socket is None:
            return
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_LIMIT.total_seconds()):
                    await socket.close()
        finally:
            socket.transport.abort()

    @property
    def is_over(self) -> bool:
        """Whether there is no connection, or one that ends now."""
        socket = self._socket
        return socket is None or socket.state is not State.OPEN or socket.transport.is_closing()

    def abort(self) -> None:
        """End the connection at once, so that whoever waits for its loss goes on."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def lost(self) -> str:
        """Wait until the connection has ended; return why, for people."""
        if self._socket is None:
            return "it was never made"
        await self._socket.wait_closed()
        reason = f" ({self._socket.close_reason})" if self._socket.close_reason else ""
        return f"closed with {self._socket.close_code}{reason}"


def trust(dialling: Dialling) -> ssl.SSLContext | None:
    """Return how the brain must prove who it is; None: the URL asks for no proof. Reads files.

    Raises:
        OSError: the CA file cannot be read, or is none (ssl.SSLError).
    """
    if not dialling.url.startswith("wss://"):
        return None
    return ssl.create_default_context(cafile=dialling.ca_file)
