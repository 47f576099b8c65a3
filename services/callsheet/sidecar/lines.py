"""Open lines to endpoints: HTTP/1.1 over one connection, one request after another."""

import asyncio
from asyncio import StreamReader, StreamWriter
from typing import Final

import h11

#: What of an answer's body is read, so that its line may serve again.
MOST_READ: Final = 64 * 1024
#: Lines and headers of an answer, altogether.
_LARGEST_HEAD: Final = 64 * 1024
#: Interim answers (1xx) before the real one.
_MOST_INTERIM: Final = 8


class LineClosed(OSError):
    """The other side hung up before it answered anything."""


class Line:
    """One connection to an origin."""

    def __init__(self, origin: str, reader: StreamReader, writer: StreamWriter) -> None:
        self.origin = origin
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_HEAD)
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether the other side has not hung up, as far as we heard."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send the request and return the head of its answer.

        Raises:
            LineClosed: the other side hung up without a word.
            OSError, h11.RemoteProtocolError: the line broke, or no HTTP came back.
        """
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        try:
            self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
            await self._writer.drain()
        except ConnectionError:
            pass  # some hang up on a body they do not want, and answer all the same
        interim = 0
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse):
                interim += 1
                if interim > _MOST_INTERIM:
                    raise h11.RemoteProtocolError("too many interim answers")
            elif event is h11.NEED_DATA:
                await self._hear(first=not interim)
            else:
                raise h11.RemoteProtocolError("the answer has no head")

    async def finish(self) -> None:
        """Read what is left of the answer, undecoded and up to 64 KiB; then ask may be called.

        Check `may_serve_again` before.
        """
        size = 0
        while size <= MOST_READ:
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                size += len(event.data)
            elif event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(MOST_READ))
            else:
                break
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()

    @property
    def may_serve_again(self) -> bool:
        """Whether the last answer was read to its end and the other side keeps the line open."""
        return self._http.our_state is h11.IDLE and self.is_open

    def close(self) -> None:
        """Hang up at once, whatever was under way."""
        if self.expiry is not None:
            self.expiry.cancel()
        self._writer.transport.abort()

    async def _hear(self, *, first: bool) -> None:
        try:
            heard = await self._reader.read(MOST_READ)
        except ConnectionError as error:
            heard, reason = b"", error
        else:
            reason = None
        untouched = first and not self._http.trailing_data[0]
        if not heard and untouched:
            raise LineClosed("the endpoint hung up without an answer") from reason
        self._http.receive_data(heard)
