"""A proxy that stops a request at a chosen place, for as long as a test likes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Final

_CHUNK: Final = 1 << 16
_UPLOAD: Final = b"POST /api/media"
#: Of a request that is stopped, so much goes through: not all of its file.
_PART: Final = 600
_SECONDS: Final = 60


class Stop(Enum):
    """Where requests are stopped."""

    NOWHERE = "nowhere"
    #: When the server has a part of the request.
    HALFWAY = "halfway"
    #: When the server has done it and answered, before the answer arrives.
    ANSWERED = "answered"


class HeldProxy:
    """Stands before a port on loopback; *stop* may be changed at any time.

    Requests that begin with *stops* are stopped: by default uploads to PayloadCMS.
    """

    def __init__(self, upstream: int, *, stops: bytes = _UPLOAD) -> None:
        self.upstream = upstream
        self._stops = stops
        self.port = 0
        self.stop = Stop.NOWHERE
        self._stopped = asyncio.Event()

    @property
    def url(self) -> str:
        """The URL of the REST API behind it."""
        return f"{self.origin}/api"

    @property
    def origin(self) -> str:
        """Its own URL."""
        return f"http://127.0.0.1:{self.port}"

    async def stopped(self) -> None:
        """Return when an upload has been stopped."""
        async with asyncio.timeout(_SECONDS):
            await self._stopped.wait()
        self._stopped.clear()

    async def carry(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        try:
            server, requests = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            return
        held = asyncio.Event()
        pumps = {
            asyncio.ensure_future(self._requests(client, requests, held)),
            asyncio.ensure_future(self._answers(server, answers, held)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.close()
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(
        self, client: asyncio.StreamReader, requests: asyncio.StreamWriter, held: asyncio.Event
    ) -> None:
        while chunk := await client.read(_CHUNK):
            if self._stops in chunk and self.stop is Stop.HALFWAY:
                requests.write(chunk[:_PART])
                await requests.drain()
                self._stopped.set()
                await asyncio.Event().wait()  # until either side hangs up
            if self._stops in chunk and self.stop is Stop.ANSWERED:
                held.set()
            requests.write(chunk)
            await requests.drain()

    async def _answers(
        self, server: asyncio.StreamReader, answers: asyncio.StreamWriter, held: asyncio.Event
    ) -> None:
        while chunk := await server.read(_CHUNK):
            if held.is_set():
                self._stopped.set()
                continue  # until either side hangs up
            answers.write(chunk)
            await answers.drain()


@asynccontextmanager
async def held_proxy(upstream: int, *, stops: bytes = _UPLOAD) -> AsyncGenerator[HeldProxy]:
    """Stand before a port on loopback, at a port of its own; *stops* as of HeldProxy."""
    proxy = HeldProxy(upstream, stops=stops)
    connections = set[asyncio.Task[None]]()

    async def connected(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        connections.add(this)
        try:
            await proxy.carry(client, answers)
        except (asyncio.CancelledError, ConnectionError):
            return
        finally:
            answers.close()
            connections.discard(this)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        for each in set(connections):
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
