"""`/api/v1/session`: a browser signs in with an API key, and gets a ticket in a cookie for it."""

from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client.access import ROLES
from callsheet.client.errors import PermissionDenied, Unauthenticated
from callsheet.gateway.bodies import Fields, read_json
from callsheet.gateway.cookies import no_cookie, ticket_cookie
from callsheet.gateway.credentials import (
    COOKIE,
    could_be_one,
    credential_of,
    is_same_origin,
    presented,
)
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


class Session:
    """The routes of signing in and out."""

    def __init__(self, plane: Plane, *, time: timedelta, ticket_time: timedelta) -> None:
        """*time*: how long a sign-in lasts at most; *ticket_time*: without a request."""
        self._plane = plane
        self._time = time
        self._ticket_time = ticket_time
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
        """Make a ticket of the key in the body, and put it into the browser's cookie.

        It allows at most what the key does; less, where roles or projects are named.
        """
        _refuse_other_origins(request)
        self._sign_ins.take(address_of(request))
        fields = Fields(await read_json(request, limit=_LARGEST))
        key = fields.text("api_key", required=True)
        roles, projects = fields.words("roles", ROLES), fields.text_list("projects")
        fields.done()
        ticket = await self._plane.client(key).create_ticket(
            time_to_live=self._ticket_time,
            roles=roles,
            projects=projects,
            renewable_for=self._time,
        )
        principal = await self._plane.asked_principal(ticket.ticket)
        cookie = ticket_cookie(request, ticket.ticket, life=principal.time_left.ToTimedelta())
        return json_response(
            principal_view(principal), status=HTTPStatus.CREATED, headers={"set-cookie": cookie}
        )

    async def who(self, request: Request) -> Response:
        """Answer who is signed in, or whose key was sent."""
        principal = await self._plane.asked_principal(credential_of(request))
        return json_response(principal_view(principal))

    async def sign_out(self, request: Request) -> Response:
        """Give the ticket up, with all that were opened with it, and take it out of the browser."""
        _refuse_other_origins(request)
        ticket = presented(request.headers) or request.cookies.get(COOKIE, "")
        if ticket and could_be_one(ticket):
            # What is over needs no end, and a key is not given up by whoever sends it along.
            with suppress(Unauthenticated, PermissionDenied):
                await self._plane.client(ticket).revoke_ticket()
            self._plane.forget(ticket)
        return Response(
            status_code=HTTPStatus.NO_CONTENT,
            headers={"cache-control": "no-store", "set-cookie": no_cookie(request)},
        )


def _refuse_other_origins(request: Request) -> None:
    """Refuse what a page of another origin sends: it would sign its visitor in or out."""
    if "origin" in request.headers and not is_same_origin(request.headers):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "CROSS_ORIGIN",
            "signing in and out is for the gateway's own pages",
        )
