"""Open lines to endpoints: HTTP/1.1 over one connection, one request after another."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import httptools

#: What of an answer's body is read, so that its line may serve again.
MOST_READ: Final = 64 * 1024
#: Lines and headers of an answer, altogether, interim ones included.
_LARGEST_HEAD: Final = 64 * 1024
#: Interim answers (1xx) before the real one.
_MOST_INTERIM: Final = 8
_SWITCHED: Final = 101


class LineClosed(OSError):
    """The other side hung up before it answered anything."""


class AnswerUnreadable(Exception):
    """What came back is no HTTP/1.1, or more of it than is read."""


class Head(NamedTuple):
    """The status and the headers of an answer; names are in lower case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]


class Line(asyncio.Protocol):
    """One connection to an origin. Made by the event loop; ask, then finish, then ask again."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: asyncio.Future[Head] | None = None
        self._end: asyncio.Future[bool] | None = None
        self._interim = self._heard = self._read = 0
        self._is_reusable = False
        self.origin = ""
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def may_serve_again(self) -> bool:
        """Whether the last answer was read to its end and the other side keeps the line open."""
        return self._is_reusable and self.is_open

    @property
    def is_open(self) -> bool:
        """Whether the other side has not hung up, as far as we heard."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Head:
        """Send the request and return the head of its answer.

        Raises:
            LineClosed: the other side hung up without a word.
            OSError: the line broke.
            AnswerUnreadable: no HTTP came back.
        """
        if self._transport is None or self._transport.is_closing():
            raise LineClosed("the endpoint hung up without an answer")
        self._head, self._end = self._loop.create_future(), self._loop.create_future()
        self._headers = []
        self._interim = self._heard = self._read = 0
        self._is_reusable = False
        self._transport.write(request)
        return await self._head

    async def finish(self) -> None:
        """Return when what is left of the answer was read, up to 64 KiB; then look again."""
        if self._end is not None:
            await self._end

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be read of the answer."""
        return self._end is None or self._end.done()

    def close(self) -> None:
        """Hang up at once, whatever was under way."""
        if self.expiry is not None:
            self.expiry.cancel()
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer."""
        if self._end is None or self._end.done():
            self.close()  # nobody asked anything
            return
        self._heard += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ends(reusable=False)
        except httptools.HttpParserError as error:
            self._breaks(AnswerUnreadable(f"the answer is no HTTP: {error}"))
        else:
            if self._is_waiting and self._heard > _LARGEST_HEAD:
                self._breaks(AnswerUnreadable("the answer's head is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if exc is None and self._heard:
            exc = AnswerUnreadable("the endpoint hung up within its answer")
        if not self._heard:
            exc = LineClosed("the endpoint hung up without an answer")
        self._breaks(exc or LineClosed("the endpoint hung up without an answer"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Hang up on an answer that nobody asked for."""
        if not self._is_waiting:
            self._is_reusable = False
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Tell the head, unless it is an interim one."""
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != _SWITCHED:
            self._interim += 1
            self._headers = []
            if self._interim > _MOST_INTERIM:
                self._breaks(AnswerUnreadable("the endpoint sends too many interim answers"))
        elif self._head is not None and not self._head.done():
            self._head.set_result(Head(status, self._headers))

    def on_body(self, body: bytes) -> None:
        """Count, and hang up on what is too much."""
        self._read += len(body)
        if self._read > MOST_READ:
            self._ends(reusable=False)

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if not self._is_waiting:
            self._ends(reusable=self._parser.should_keep_alive())

    @property
    def _is_waiting(self) -> bool:
        return self._head is not None and not self._head.done()

    def _ends(self, *, reusable: bool) -> None:
        if self._end is not None and not self._end.done():
            self._is_reusable = reusable
            self._end.set_result(True)

    def _breaks(self, error: Exception) -> None:
        """Fail whoever waits for the head; who waits for the rest is told that there is none."""
        if self._is_waiting and self._head is not None:
            self._head.set_exception(error)
        self._ends(reusable=False)
        self.close()
