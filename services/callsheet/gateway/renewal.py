"""Keeps a browser signed in while it is used: a new ticket before the one it has ends.

A ticket is short, so that one that was stolen is soon worth nothing; the sign-in may last longer.
The answer to a request that came with a live ticket, of whose time less than half is left, brings
the next one in its cookie, until the renewals end with the sign-in.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final, NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callsheet.client.errors import CallError
from callsheet.gateway.cookies import ticket_cookie
from callsheet.gateway.credentials import COOKIE, credential_of, fingerprint, presented
from callsheet.gateway.plane import REMEMBERED, Plane
from callsheet.gateway.problems import Refused
from callsheet.v1.access_service_pb2 import Principal

#: What a stream leaves of its ticket's time: its reader comes back with the next one.
MARGIN: Final = timedelta(seconds=30)
#: How long requests that were under way with the old ticket are given the same new one.
_SHARED: Final = timedelta(seconds=60)
#: The pause after a renewal that failed.
_PAUSE: Final = timedelta(seconds=5)
_STARTS: Final = frozenset({"http.response.start", "websocket.accept"})
_NEVER: Final = float("inf")


class _Made(NamedTuple):
    """A ticket that was made in the place of another, and until when others are given it too."""

    ticket: str
    life: timedelta
    until: float


class Renewal:
    """Knows when each ticket is due, and makes the next one once, however many ask."""

    def __init__(
        self, plane: Plane, *, ticket_time: timedelta, clock: Callable[[], float] = monotonic
    ) -> None:
        """*ticket_time*: how long each ticket is good for."""
        self._plane = plane
        self._time = ticket_time
        self._clock = clock
        #: When each ticket is due, by its fingerprint; what was asked about longest ago goes first.
        self._due: OrderedDict[str, float] = OrderedDict()
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._making: dict[str, asyncio.Task[_Made]] = {}

    async def cookie(self, connection: HTTPConnection) -> str | None:
        """Return the Set-Cookie that brings a browser its next ticket; None: it needs none now."""
        if presented(connection.headers) is not None or not connection.cookies.get(COOKIE):
            return None
        try:
            made = await self._next(credential_of(connection))
        except (CallError, Refused):
            return None  # it goes on with the one it has, and another request brings the next
        return None if made is None else ticket_cookie(connection, made.ticket, life=made.life)

    def close(self) -> None:
        """Make no more."""
        for making in self._making.values():
            making.cancel()

    async def _next(self, ticket: str) -> _Made | None:
        mark = fingerprint(ticket)
        made = self._made.get(mark)
        if made is not None and self._clock() < made.until:
            return made
        due = self._due.get(mark)
        if due is None:
            due = self._remember_due(mark, self._due_time(await self._plane.principal(ticket)))
        if self._clock() < due:
            return None
        making = self._making.get(mark)
        if making is None:
            making = self._making[mark] = asyncio.create_task(self._make(mark, ticket))
            making.add_done_callback(lambda _: self._making.pop(mark))
        # Whoever leaves does not take the ticket from the others.
        return await asyncio.shield(making)

    async def _make(self, mark: str, ticket: str) -> _Made:
        try:
            renewed = await self._plane.client(ticket).renew_ticket(time_to_live=self._time)
            principal = await self._plane.asked_principal(renewed.ticket)
        except CallError:
            self._remember_due(mark, self._clock() + _PAUSE.total_seconds())
            raise
        made = _Made(
            renewed.ticket,
            principal.time_left.ToTimedelta(),
            self._clock() + _SHARED.total_seconds(),
        )
        self._remember_due(fingerprint(renewed.ticket), self._due_time(principal))
        self._made[mark] = made
        if len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return made

    def _due_time(self, principal: Principal) -> float:
        if not can_be_renewed(principal):
            return _NEVER
        left = principal.time_left.ToTimedelta() - self._time / 2
        return self._clock() + left.total_seconds()

    def _remember_due(self, mark: str, due: float) -> float:
        self._due[mark] = due
        self._due.move_to_end(mark)
        if len(self._due) > REMEMBERED:
            self._due.popitem(last=False)
        return due


class Renewing:
    """The layer that adds the next ticket to answers that nobody keeps, and to WebSockets."""

    def __init__(self, app: ASGIApp, renewal: Renewal) -> None:
        self._app = app
        self._renewal = renewal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket."""

        async def renewing(message: Message) -> None:
            if message["type"] in _STARTS and _may_carry(message):
                cookie = await self._renewal.cookie(HTTPConnection(scope))
                if cookie is not None:
                    MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, renewing)


def can_be_renewed(principal: Principal) -> bool:
    """Whether somebody shows a ticket from which another one can be had that is good for longer."""
    return (
        principal.HasField("renewal_end_time")
        and principal.expire_time.ToNanoseconds() < principal.renewal_end_time.ToNanoseconds()
    )


def stream_time(principal: Principal, *, longest: timedelta) -> timedelta:
    """Return how long a stream may last.

    One that a ticket opened ends a little before it, as long as there is a next one: its reader
    comes back with that, and nobody is signed out while looking on.
    """
    if not can_be_renewed(principal):
        return longest
    left = principal.time_left.ToTimedelta()
    return min(longest, left - min(MARGIN, left / 2))


def ends_soon(principal: Principal) -> bool:
    """Whether the ticket's time is nearly over, and there is a next one to come back with."""
    return can_be_renewed(principal) and principal.time_left.ToTimedelta() < MARGIN


def _may_carry(message: Message) -> bool:
    """Whether a cookie may come along: not with what is kept, nor with one that stands there."""
    message.setdefault("headers", [])
    headers = MutableHeaders(scope=message)
    if message["type"] == "websocket.accept":
        return True
    return "no-store" in headers.get("cache-control", "") and "set-cookie" not in headers
