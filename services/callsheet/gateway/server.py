"""The HTTP server: uvicorn, with limits of its own on what a silent or greedy peer can take."""

import asyncio
import json
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from callsheet.gateway.problems import PROBLEM_TYPE, Refused, problem
from callsheet.gateway.rooms.wire import ABORT, Wire

_KIBIBYTE: Final = 1024
_BACKLOG: Final = 4096
#: Files that a process may have open, for its connections; as far as the system lets it.
_FILES: Final = 65_536
#: How often the Date header is made anew.
_TICK: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AddressTaken(Exception):
    """The server cannot listen at its address."""


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What one connection, and all together, may take."""

    #: Connections open at the same time.
    connections: int = 20_000
    #: Bytes of a request's first line and its header fields.
    head_bytes: int = 32 * _KIBIBYTE
    #: Header fields of one request.
    head_fields: int = 100
    #: How long a peer may take to send the head of a request, from its connection on.
    head_time: timedelta = timedelta(seconds=20)
    #: How long a connection may be idle between two requests.
    idle_time: timedelta = timedelta(seconds=75)
    #: Bytes of a body that nobody wants, because its request was refused, and how long they may
    #: come: hanging up at once would make many clients lose the answer.
    unwanted_bytes: int = 16 * 1024 * _KIBIBYTE
    unwanted_time: timedelta = timedelta(seconds=10)
    #: Bytes of one message of a WebSocket.
    message_bytes: int = 64 * _KIBIBYTE


class Server:
    """Listens at an address for an application."""

    def __init__(
        self,
        app: ASGIApp,
        address: str,
        *,
        limits: ServerLimits | None = None,
        trusted_proxies: tuple[str, ...] = (),
    ) -> None:
        chosen = limits or ServerLimits()
        self._address = address
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                cast("Any", app),
                loop="none",
                http=_protocol(chosen),
                ws=Wire,
                ws_max_size=chosen.message_bytes,
                # A small compressed message may be a large one, and each connection pays for it.
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=list(trusted_proxies),
                server_header=False,
                timeout_keep_alive=max(1, round(chosen.idle_time.total_seconds())),
                backlog=_BACKLOG,
            )
        )
        self._ticking: asyncio.Task[None] | None = None
        #: The port it listens on; zero before it has started and after it has stopped.
        self.port = 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._uvicorn.server_state.connections)

    async def start(self) -> None:
        """Listen. Raises AddressTaken."""
        listener = _listener(self._address)
        _allow_files()
        server = self._uvicorn
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.on_tick(0)
        await server.startup(sockets=[listener])
        self._ticking = asyncio.create_task(self._tick())
        self.port = listener.getsockname()[1]
        _log.info("server_started", address=self._address, port=self.port)

    async def stop(self, *, grace: timedelta) -> None:
        """Take no new requests, let the others end within *grace*, and close. Again: nothing."""
        port, self.port = self.port, 0
        if not port:
            return
        if self._ticking is not None:
            self._ticking.cancel()
        for server in self._uvicorn.servers:
            server.close()
        state = self._uvicorn.server_state
        for connection in tuple(state.connections):
            connection.shutdown()
        await _end(state, grace=grace)
        _log.info("server_stopped", port=port)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK.total_seconds())
            await self._uvicorn.on_tick(0)


async def _end(state: ServerState, *, grace: timedelta) -> None:
    """Let requests under way end, cancel those that do not, and hang up on whoever is left."""
    tasks = set(state.tasks)
    if tasks and grace:
        await asyncio.wait(tasks, timeout=grace.total_seconds())
    late = {task for task in state.tasks if not task.done()}
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1)
    for connection in tuple(state.connections):
        connection.transport.abort()


def _protocol(limits: ServerLimits) -> type[asyncio.Protocol]:
    """Return the class of uvicorn's connections that keeps to the limits."""

    class Limited(_Protocol):
        chosen = limits

    return Limited


class _Protocol(HttpToolsProtocol):
    """A connection whose requests have a head of bounded size, sent in bounded time."""

    chosen = ServerLimits()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._size = self._fields = self._unwanted = 0
        self._in_head = True
        self._is_whole = False
        self._refusal: Refused | None = None
        super().connection_made(cast("asyncio.Transport", transport))
        self._timer = self._abort_after(self.chosen.head_time)
        if len(self.connections) > self.chosen.connections:
            self._refuse(_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"] = {ABORT: self.transport.abort}
        self._size = self._fields = self._unwanted = 0
        self._in_head = True
        self._is_whole = False
        self._end_within(self.chosen.head_time)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value))
        if self._in_head:  # a trailer, after the body, is not what the request said at first
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._timer.cancel()
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._unwanted += len(body)
            if self._unwanted > self.chosen.unwanted_bytes:
                self.transport.abort()

    def on_message_complete(self) -> None:
        self._is_whole = True
        self._timer.cancel()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self._is_whole:
            self._end_within(self.chosen.unwanted_time)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it, and hang up."""
        self._refuse(self._refusal or _MALFORMED)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self.chosen.head_bytes or self._fields > self.chosen.head_fields:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError(_HEAD_TOO_LARGE.detail)  # httptools stops at it

    def _end_within(self, time: timedelta) -> None:
        self._timer.cancel()
        self._timer = self._abort_after(time)

    def _abort_after(self, time: timedelta) -> asyncio.TimerHandle:
        return self.loop.call_later(time.total_seconds(), self.transport.abort)

    def _refuse(self, refused: Refused) -> None:
        body = json.dumps(problem(refused)).encode()
        head = (
            f"HTTP/1.1 {refused.status.value} {refused.status.phrase}\r\n"
            f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


_MALFORMED: Final = Refused(
    HTTPStatus.BAD_REQUEST, "REQUEST_MALFORMED", "the request is no well-formed HTTP"
)
_HEAD_TOO_LARGE: Final = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "HEAD_TOO_LARGE",
    "the request's first line and header are too large",
)
_TOO_MANY: Final = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "CONNECTIONS_EXHAUSTED",
    "too many connections are open",
    retry_after=timedelta(seconds=1),
)

#: What scope["state"][ABORT] is.
Abort = Callable[[], None]


def _listener(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, _, _, _, place = found[0]
        # With its protocol named: asyncio sends without delay on such sockets alone, and an answer
        # in two pieces would wait 40 ms for the peer's acknowledgement of the first.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise AddressTaken(f"cannot listen at {address}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressTaken(f"cannot listen at {address}: {error.strerror or error}") from error
    return listener


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
