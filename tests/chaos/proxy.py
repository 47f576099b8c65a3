"""A TCP proxy before each server of the plane, which loses what networks lose.

One Link is what one process has to one server. A fault is done to it from outside while bytes go
through; it counts what it did, so that a fault that touched nothing is known to have done nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 16
_HTTP2_FRAME_HEAD: Final = 9
#: DATA and HEADERS: all other frames of HTTP/2 carry neither a request nor an answer.
_HTTP2_CONTENT: Final = frozenset({0, 1})

#: A port of loopback, or the path of a unix socket.
Upstream = int | Path


@dataclass(frozen=True)
class Speech:
    """How to tell, in the bytes of a protocol, what asks for work and what answers it."""

    asks: Callable[[bytes], bool]
    answers: Callable[[bytes], bool]


def has_http2_content(chunk: bytes) -> bool:
    """Whether a chunk that begins with a frame has one with headers or content."""
    at = len(_PREFACE) if chunk.startswith(_PREFACE) else 0
    while at + _HTTP2_FRAME_HEAD <= len(chunk):
        if chunk[at + 3] in _HTTP2_CONTENT:
            return True
        at += _HTTP2_FRAME_HEAD + int.from_bytes(chunk[at : at + 3], "big")
    return False


_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ANYTHING: Final = bool

#: Scripts alone write to the ledger; and a blocked pop of a wake list hands out what it answers.
REDIS: Final = Speech(asks=lambda chunk: b"EVAL" in chunk or b"BLPOP" in chunk, answers=_ANYTHING)
GRPC: Final = Speech(asks=has_http2_content, answers=has_http2_content)
WEBSOCKET: Final = Speech(asks=lambda chunk: not chunk.startswith(b"GET "), answers=_ANYTHING)
HTTP: Final = Speech(asks=lambda chunk: chunk.startswith(b"POST "), answers=_ANYTHING)


class Link:
    """Stands on a port of loopback before one server. Connections come and go; faults stay."""

    def __init__(self, name: str, upstream: Upstream, speech: Speech) -> None:
        self.name = name
        self.port = 0
        #: What was done to whom: connections cut, chunks delayed and dropped, replies lost.
        self.done: Counter[str] = Counter()
        self._upstream = upstream
        self._speech = speech
        self._delay = timedelta(0)
        self._is_dropping = False
        self._replies_to_lose = 0
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._listener: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections, on a port that the system chooses."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._listener is not None:
            self._listener.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> int:
        """Cut all connections at once; return how many there were."""
        connections = list(self._connections.values())
        for connection in connections:
            connection.cut()
        self.done["cut"] += len(connections)
        return len(connections)

    def lose_replies(self, count: int) -> None:
        """Let the server do the next so many requests, and cut the line instead of its reply."""
        self._replies_to_lose = count

    def delay(self, length: timedelta) -> None:
        """Hold up every chunk, in both directions, for so long."""
        self._delay = length

    def drop(self) -> None:
        """Lose everything, in both directions, without a word."""
        self._is_dropping = True

    def heal(self) -> None:
        """End all faults. Lines that lost something are cut: their streams have holes."""
        self._delay, self._is_dropping, self._replies_to_lose = timedelta(0), False, 0
        for connection in self._connections.values():
            if connection.has_hole:
                connection.cut()

    def dooms(self, chunk: bytes) -> bool:
        """Whether the reply to this chunk is to be lost; counts down if so."""
        if self._replies_to_lose == 0 or not self._speech.asks(chunk):
            return False
        self._replies_to_lose -= 1
        return True

    def is_answer(self, chunk: bytes) -> bool:
        """Whether the chunk answers a request."""
        return self._speech.answers(chunk)

    async def loses(self, chunk: bytes) -> bool:
        """Whether the chunk is lost; what is not lost may take its time."""
        if self._delay:
            self.done["delay"] += 1
            await asyncio.sleep(self._delay.total_seconds())
        if self._is_dropping:
            self.done["drop"] += 1
        return self._is_dropping

    async def _connected(self, client: asyncio.StreamReader, replies: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        connection = self._connections[this] = _Connection(self, client, replies)
        try:
            await connection.carry(self._upstream)
        except (asyncio.CancelledError, OSError):
            return
        finally:
            del self._connections[this]
            connection.cut()


class _Connection:
    """One client's connection and its twin to the server."""

    def __init__(
        self, link: Link, client: asyncio.StreamReader, replies: asyncio.StreamWriter
    ) -> None:
        self._link = link
        self._client, self._replies = client, replies
        self._requests: asyncio.StreamWriter | None = None
        self._is_doomed = False
        self.has_hole = False

    async def carry(self, upstream: Upstream) -> None:
        """Carry bytes until either side, or a fault, ends it. Raises OSError."""
        server, self._requests = await _dial(upstream)
        pumps = {
            asyncio.ensure_future(self._carry_requests(self._requests)),
            asyncio.ensure_future(self._carry_replies(server)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()  # before anything is awaited, for this may be cancelled again
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def cut(self) -> None:
        """Reset both lines."""
        for writer in (self._replies, self._requests):
            if writer is not None:
                writer.transport.abort()

    async def _carry_requests(self, requests: asyncio.StreamWriter) -> None:
        while chunk := await self._client.read(_CHUNK):
            if await self._link.loses(chunk):
                self.has_hole = True
                continue
            self._is_doomed = self._is_doomed or self._link.dooms(chunk)
            requests.write(chunk)
            await requests.drain()

    async def _carry_replies(self, server: asyncio.StreamReader) -> None:
        while chunk := await server.read(_CHUNK):
            if self._is_doomed and self._link.is_answer(chunk):
                self._link.done["cut_after"] += 1
                return
            if await self._link.loses(chunk):
                self.has_hole = True
                continue
            self._replies.write(chunk)
            await self._replies.drain()


async def _dial(upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(upstream, Path):
        return await asyncio.open_unix_connection(upstream)
    return await asyncio.open_connection("127.0.0.1", upstream)
