"""The one connection to the control plane, over which every caller speaks with a key of its own."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final

from starlette.requests import HTTPConnection

from callsheet.client import AsyncTaskClient
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.problems import Refused
from callsheet.v1.access_service_pb2 import Principal

#: How long a call may take, all its tries together: a person waits behind it.
TIMEOUT: Final = timedelta(seconds=3)
#: How long control may be away while a task is watched, before the reader is told.
OUTAGE: Final = timedelta(seconds=60)
#: How long a key is believed without asking again, where the gateway itself has to know it.
BELIEVED: Final = timedelta(seconds=2)
#: Keys remembered at most; past it all are asked for anew.
REMEMBERED: Final = 10_000
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
        self._client = AsyncTaskClient(
            address, key=_NOBODY, timeout=timeout, outage_timeout=outage_timeout
        )
        self._clock = clock
        self._known: dict[str, tuple[Principal, float]] = {}

    def client(self, credential: str) -> AsyncTaskClient:
        """Return a client that sends this key or ticket; it need not be closed.

        Raises Refused when it cannot be a key.
        """
        try:
            return self._client.with_key(credential)
        except ValueError:
            raise Refused(
                HTTPStatus.UNAUTHORIZED, "KEY_INVALID", "the API key is not valid"
            ) from None

    async def caller(self, connection: HTTPConnection) -> AsyncTaskClient:
        """Return a client of whoever calls, whom control knows; nothing else is looked at before.

        Raises Refused, CallError.
        """
        credential = credential_of(connection)
        await self.principal(credential)
        return self.client(credential)

    async def principal(self, credential: str) -> Principal:
        """Return whom a key or ticket stands for, as it was a moment ago. Raises CallError."""
        now = self._clock()
        known = self._known.get(credential)
        if known is not None and known[1] > now:
            return known[0]
        principal = await self.client(credential).principal()
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[credential] = principal, now + BELIEVED.total_seconds()
        return principal

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._client.close()
