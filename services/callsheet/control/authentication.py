"""Who calls: the key or ticket of a call's metadata, turned into its principal."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Final, cast

import structlog

from callsheet.ledger.access import Principal
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.errors import LedgerError, LedgerUnavailable

#: How long a key is believed without asking again; so a revoked one ends after this long.
BELIEVED: Final = timedelta(seconds=2)
#: Keys remembered at most; past it all are asked for anew.
REMEMBERED: Final = 10_000

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())

Metadata = Iterable[tuple[str, str | bytes]]


class Authentication:
    """Knows the principals of the keys seen lately, and asks the ledger for the others.

    It also ends streams whose key or ticket no longer stands: one look for all of them.
    """

    def __init__(self, credentials: Credentials, *, believed: timedelta = BELIEVED) -> None:
        self._credentials = credentials
        self._believed = believed.total_seconds()
        self._known: dict[str, tuple[Principal, float]] = {}
        self._streams: dict[str, set[_Stream]] = {}

    async def principal(self, metadata: Metadata) -> Principal:
        """Return whoever makes the call.

        Raises:
            KeyInvalid: no key was sent, or it is malformed, unknown or revoked.
            TicketExpired: the ticket's time is over.
        """
        text = key_text(metadata)
        now = monotonic()
        known = self._known.get(text)
        if known is not None and known[1] > now:
            return known[0]
        principal = await self._credentials.recognise(text)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[text] = (principal, now + self._believed)
        return principal

    @asynccontextmanager
    async def standing(self, metadata: Metadata) -> AsyncGenerator[None]:
        """Let a stream go on for as long as its key or ticket stands.

        Raises what principal raises, in the midst of what the stream does.
        """
        text = key_text(metadata)
        stream = _Stream(asyncio.timeout(None))
        self._streams.setdefault(text, set()).add(stream)
        try:
            async with stream.limit:
                yield
        except TimeoutError:
            if stream.ended_by is None:
                raise
            raise stream.ended_by.with_traceback(None) from None
        finally:
            streams = self._streams[text]
            streams.discard(stream)
            if not streams:
                del self._streams[text]

    async def run(self) -> None:
        """Look again and again at the keys and tickets of open streams, for ever."""
        while True:
            await asyncio.sleep(self._believed)
            try:
                await self.look()
            except Exception:  # noqa: BLE001  # one broken record must not end everybody's streams
                _log.exception("standing_not_checked")

    async def look(self) -> None:
        """End the streams whose key or ticket no longer stands."""
        if not self._streams:
            return
        try:
            verdicts = await self._credentials.recognise_all(tuple(self._streams))
        except LedgerUnavailable:
            return  # nobody can say: the hub ends watchers of a ledger that stays away
        for text, verdict in verdicts.items():
            if isinstance(verdict, LedgerError):
                self._known.pop(text, None)
                for stream in self._streams.get(text, ()):
                    stream.end(verdict)


class _Stream:
    """An open stream, and what ends it."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.limit = limit
        self.ended_by: LedgerError | None = None

    def end(self, reason: LedgerError) -> None:
        """End it where it stands; a second time changes nothing."""
        if self.ended_by is None:
            self.ended_by = reason
            self.limit.reschedule(asyncio.get_running_loop().time())


def key_text(metadata: Metadata) -> str:
    """Return the key of `authorization: Bearer <key>` or `x-api-key: <key>`; '' without one."""
    found = ""
    for name, value in metadata:
        if isinstance(value, bytes):
            continue
        if name == "authorization":
            scheme, _, key = value.partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
        if name == "x-api-key":
            found = value
    return found
