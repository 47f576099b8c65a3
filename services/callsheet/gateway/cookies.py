"""The cookie of a signed-in browser's ticket: no script reads it, no other site sends it."""

from datetime import timedelta
from http.cookies import SimpleCookie
from math import ceil
from typing import Final

from starlette.requests import HTTPConnection

from callsheet.gateway.credentials import COOKIE

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SECURE: Final = frozenset({"https", "wss"})


def ticket_cookie(connection: HTTPConnection, ticket: str, *, life: timedelta) -> str:
    """Return the Set-Cookie that gives a browser its ticket; one of no life takes it away."""
    cookie: SimpleCookie = SimpleCookie()
    cookie[COOKIE] = ticket
    found = cookie[COOKIE]
    found["max-age"] = str(max(0, ceil(life.total_seconds())))
    found["path"] = "/"
    found["httponly"] = True
    found["samesite"] = "strict"
    if _is_secure(connection):
        found["secure"] = True
    return found.OutputString()


def no_cookie(connection: HTTPConnection) -> str:
    """Return the Set-Cookie that takes the ticket out of a browser."""
    return ticket_cookie(connection, "", life=timedelta())


def _is_secure(connection: HTTPConnection) -> bool:
    """Whether the cookie goes over TLS alone; on this very machine there may be none."""
    url = connection.base_url
    return url.scheme in _SECURE or url.hostname not in _LOOPBACK
