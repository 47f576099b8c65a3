"""`/api/v1/session`: a browser signs in with an API key, and gets a ticket in a cookie for it."""

from datetime import timedelta
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.gateway.bodies import Fields, read_json
from callsheet.gateway.credentials import COOKIE, credential_of, is_same_origin
from callsheet.gateway.edge import address_of
from callsheet.gateway.limits import RateLimit
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import principal_view
from callsheet.gateway.problems import Refused
from callsheet.gateway.tasks import json_response

#: Sign-ins of one address: so many at once, and one in six seconds after that.
_AT_ONCE: Final = 20
_PER_SECOND: Final = 1 / 6
_LARGEST: Final = 8192
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Session:
    """The routes of signing in and out."""

    def __init__(self, plane: Plane, *, time: timedelta) -> None:
        """*time*: how long a sign-in lasts."""
        self._plane = plane
        self._time = time
        self._sign_ins = RateLimit(per_second=_PER_SECOND, burst=_AT_ONCE)

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        path = "/api/v1/session"
        return [
            Route(path, self.sign_in, methods=["POST"]),
            Route(path, self.who, methods=["GET"]),
            Route(path, self.sign_out, methods=["DELETE"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        """Make a ticket of the key in the body, and put it into the browser's cookie."""
        _refuse_other_origins(request)
        self._sign_ins.take(address_of(request))
        fields = Fields(await read_json(request, limit=_LARGEST))
        key = fields.text("api_key", required=True)
        fields.done()
        client = self._plane.client(key)
        ticket = await client.create_ticket(time_to_live=self._time)
        principal = await self._plane.asked_principal(ticket.ticket)
        answer = json_response(principal_view(principal), status=HTTPStatus.CREATED)
        answer.set_cookie(
            COOKIE,
            ticket.ticket,
            max_age=int(self._time.total_seconds()),
            path="/",
            secure=_is_secure(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def who(self, request: Request) -> Response:
        """Answer who is signed in, or whose key was sent."""
        principal = await self._plane.asked_principal(credential_of(request))
        return json_response(principal_view(principal))

    async def sign_out(self, request: Request) -> Response:
        """Take the ticket out of the browser; it ends by itself."""
        _refuse_other_origins(request)
        answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"cache-control": "no-store"})
        answer.delete_cookie(
            COOKIE, path="/", secure=_is_secure(request), httponly=True, samesite="strict"
        )
        return answer


def _refuse_other_origins(request: Request) -> None:
    """Refuse what a page of another origin sends: it would sign its visitor in or out."""
    if "origin" in request.headers and not is_same_origin(request.headers):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "CROSS_ORIGIN",
            "signing in and out is for the gateway's own pages",
        )


def _is_secure(request: Request) -> bool:
    """Whether the cookie goes over TLS alone; on this very machine there may be none."""
    return request.base_url.scheme == "https" or request.base_url.hostname not in _LOOPBACK
