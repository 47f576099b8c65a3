"""The connections to the control plane, which all callers share, each with a key of its own."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from itertools import cycle
from time import monotonic
from typing import Final

from starlette.requests import HTTPConnection

from callsheet.client import AsyncTaskClient
from callsheet.client.errors import Unauthenticated
from callsheet.gateway.credentials import credential_of, fingerprint
from callsheet.gateway.problems import Refused
from callsheet.v1.access_service_pb2 import Principal

#: How long a call may take, all its tries together: a person waits behind it.
TIMEOUT: Final = timedelta(seconds=3)
#: How long control may be away while a task is watched, before the reader is told.
OUTAGE: Final = timedelta(seconds=60)
#: How long a key is believed without asking again, where the gateway itself has to know it.
BELIEVED: Final = timedelta(seconds=2)
#: Keys remembered at most; whichever was asked about longest ago is forgotten first.
REMEMBERED: Final = 10_000
#: Connections for streams alone. Control serves 1,024 streams of one, and what comes after them
#: waits unseen: no call may stand behind them, and of 8,192 each has about 512.
STREAM_CONNECTIONS: Final = 16
#: What the connection itself would say it is; no call is ever made with it.
_NOBODY: Final = "nobody"


class Plane:
    """Opens the plane to callers; connects with the first call."""

    def __init__(
        self,
        address: str,
        *,
        timeout: timedelta = TIMEOUT,
        outage_timeout: timedelta = OUTAGE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Set it up for the control plane at *address*, host:port."""

        def connected() -> AsyncTaskClient:
            return AsyncTaskClient(
                address, key=_NOBODY, timeout=timeout, outage_timeout=outage_timeout
            )

        self._client = connected()
        self._streamers = tuple(connected() for _ in range(STREAM_CONNECTIONS))
        self._next_streamer = cycle(self._streamers)
        self._clock = clock
        #: Whom control recognised, and until when that is believed, by the key's fingerprint.
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        #: What control is being asked, by the key's fingerprint.
        self._asking: dict[str, asyncio.Task[Principal]] = {}

    def client(self, credential: str) -> AsyncTaskClient:
        """Return a client that sends this key or ticket; it need not be closed.

        Raises Refused when it cannot be a key.
        """
        return _with_key(self._client, credential)

    def streamer(self, credential: str) -> AsyncTaskClient:
        """Return a client for streams, which sends this key or ticket; it need not be closed.

        Raises Refused when it cannot be a key.
        """
        return _with_key(next(self._next_streamer), credential)

    async def caller(self, connection: HTTPConnection) -> AsyncTaskClient:
        """Return a client of whoever calls, whom control knows; nothing else is looked at before.

        Raises Refused, CallError.
        """
        credential = credential_of(connection)
        await self.principal(credential)
        return self.client(credential)

    async def principal(self, credential: str) -> Principal:
        """Return whom a key or ticket stands for, as it was a moment ago. Raises CallError.

        When a gateway is started anew, its clients come back at once, most with few keys: who
        comes while control is being asked gets the same answer.
        """
        mark = fingerprint(credential)
        found = self._known.get(mark)
        if found is not None and found[1] > self._clock():
            return found[0]
        asking = self._asking.get(mark)
        if asking is None:
            asking = self._asking[mark] = asyncio.create_task(self.asked_principal(credential))
            asking.add_done_callback(lambda _: self._asking.pop(mark))
        # Whoever leaves does not take the answer from the others.
        return await asyncio.shield(asking)

    async def asked_principal(self, credential: str) -> Principal:
        """Return whom a key or ticket stands for, as control says now. Raises CallError."""
        try:
            principal = await self.client(credential).principal()
        except Unauthenticated:
            self.forget(credential)
            raise
        mark = fingerprint(credential)
        self._known[mark] = principal, self._clock() + BELIEVED.total_seconds()
        self._known.move_to_end(mark)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return principal

    def is_recognised(self, credential: str) -> bool:
        """Whether control knew this key or ticket when it was last asked; that may be a while ago.

        It tells who guesses from who does not, and lets nobody in.
        """
        return fingerprint(credential) in self._known

    def forget(self, credential: str) -> None:
        """Recognise a key or ticket no more: control refused it."""
        self._known.pop(fingerprint(credential), None)

    async def close(self) -> None:
        """Close the connections; calls under way are cancelled."""
        for asking in self._asking.values():
            asking.cancel()
        await asyncio.gather(*(each.close() for each in (self._client, *self._streamers)))


def _with_key(client: AsyncTaskClient, credential: str) -> AsyncTaskClient:
    try:
        return client.with_key(credential)
    except ValueError:
        raise Refused(HTTPStatus.UNAUTHORIZED, "KEY_INVALID", "the API key is not valid") from None
