"""A webhook receiver on loopback that answers by a script and remembers what it got."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT_SECONDS = 30
#: Of hooks.example, signed by itself; its key is public, and worth nothing.
CERTIFICATE = Path(__file__).with_name("hooks_example.pem")


@dataclass(frozen=True)
class Received:
    """One request, as it arrived; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The webhook's id."""
        return self.headers["webhook-id"]

    def json(self) -> dict[str, Any]:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer. *after*: only once that is set; *cut*: hang up without an answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b"ok"
    after: asyncio.Event | None = None
    cut: bool = False
    #: How many of its last bytes are never sent, while the connection stays open.
    unsent: int = 0
    #: What is sent instead of a proper answer, before hanging up.
    raw: bytes = b""


class Receiver:
    """An HTTP server whose first requests get the given replies, and every further one the last.

    Without replies everything is answered 200. With *tls* it speaks HTTPS as hooks.example, with a
    certificate that nobody trusts unless told to. Port 0: any that is free. An async context
    manager.
    """

    def __init__(self, *replies: Reply, tls: bool = False, port: int = 0) -> None:
        self._port = port
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
        if self._tls is not None:
            self._tls.load_cert_chain(CERTIFICATE)
        self._replies = list(replies) or [Reply()]
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []
        self.connections = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The URL of its webhook endpoint."""
        return f"http://127.0.0.1:{self.port}/webhooks/task-complete"

    @property
    def open_connections(self) -> int:
        """How many clients have not hung up."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, ssl=self._tls
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up on everybody."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def arrived(self, count: int = 1) -> list[Received]:
        """Wait until so many requests have arrived, and return all that have."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.received) >= count)
        return self.received

    def reply_to(self, received: Received) -> Reply:
        """Return what this request is answered."""
        return self._replies[min(len(self.received), len(self._replies) - 1)]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        current = asyncio.current_task()
        assert current is not None
        self._connections.add(current)
        try:
            while await self._served(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side went away, or the test is over
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._connections.discard(current)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        received = await _read(reader)
        async with self._changed:
            reply = self.reply_to(received)
            self.received.append(received)
            self._changed.notify_all()
        if reply.after is not None:
            await reply.after.wait()
        if reply.cut or reply.raw:
            writer.write(reply.raw)
            return False
        lines = [f"HTTP/1.1 {reply.status} Scripted", f"content-length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        sent = "\r\n".join([*lines, "", ""]).encode() + reply.body
        writer.write(sent[: len(sent) - reply.unsent])
        await writer.drain()
        if reply.unsent:
            await reader.read()
        return not reply.unsent


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(head[0].split(" ")[1], headers, body)
