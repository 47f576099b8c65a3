"""The routes that tell how the plane is; none of them waits for a part of it.

Beside the API anybody learns only whether the gateway lives and is ready; a key, how the parts
are. The listener of the health API is for the machine's own network: it tells anybody how the parts
are, and no more than that.
"""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client.errors import CallError, Unauthenticated
from callsheet.gateway.credentials import COOKIE, credential_of, presented
from callsheet.gateway.health.views import Shown, component_view, plane_view
from callsheet.gateway.health.watch import HealthWatch
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused, encoded
from callsheet.runtime.checks.finding import HealthState

#: When a probe may ask again.
_LATER: Final = timedelta(seconds=1)
_HEADERS: Final[Mapping[str, str]] = MappingProxyType({"cache-control": "no-store"})


def routes(watch: HealthWatch, plane: Plane) -> list[BaseRoute]:
    """Return /health and /ready, as they stand beside the API."""

    async def health(request: Request) -> Response:
        """Whether the gateway lives; with a key, how every part of the plane is."""
        view: Shown = {"status": "live"}
        # While control is away nobody can tell who asks, and nobody waits for it.
        if watch.is_ready and await _is_known(request, plane):
            view |= {"plane": plane_view(watch, figures=True)}
        return _answer(view)

    async def ready(_: Request) -> Response:
        """Whether requests that need the plane are answered."""
        return _ready(watch)

    return [
        Route("/health", health, methods=["GET"], name="health"),
        Route("/ready", ready, methods=["GET"], name="ready"),
    ]


def aggregated_routes(watch: HealthWatch) -> list[BaseRoute]:
    """Return the health API, as it stands on an address of its own."""

    async def whole(_: Request) -> Response:
        """How the plane and every part of it is; 503 when it is down."""
        return _answer(plane_view(watch), _status(watch.state))

    async def one(request: Request) -> Response:
        """How one part is; 503 when it is down."""
        component = watch.components.get(request.path_params["component"])
        if component is None:
            raise Refused(HTTPStatus.NOT_FOUND, "COMPONENT_UNKNOWN", "there is no such component")
        return _answer(component_view(component), _status(component.finding.state))

    async def live(_: Request) -> Response:
        """Whether the gateway lives."""
        return _answer({"status": "live"})

    async def ready(_: Request) -> Response:
        """Whether requests that need the plane are answered."""
        return _ready(watch)

    return [
        Route("/", whole, methods=["GET"], name="health"),
        Route("/health", whole, methods=["GET"]),
        Route("/health/{component}", one, methods=["GET"], name="component"),
        Route("/live", live, methods=["GET"], name="live"),
        Route("/ready", ready, methods=["GET"], name="ready"),
    ]


async def _is_known(request: Request, plane: Plane) -> bool:
    """Whether somebody asks whom control knows. Raises Refused, Unauthenticated for a bad key."""
    if presented(request.headers) is None and COOKIE not in request.cookies:
        return False
    try:
        await plane.principal(credential_of(request))
    except Unauthenticated:
        raise
    except CallError:
        return False
    return True


def _ready(watch: HealthWatch) -> Response:
    if watch.is_ready:
        return _answer({"status": "ready"})
    seconds = str(int(_LATER.total_seconds()))
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return _answer({"status": "not_ready"}, status, **{"retry-after": seconds})


def _status(state: HealthState) -> HTTPStatus:
    return HTTPStatus.SERVICE_UNAVAILABLE if state is HealthState.DOWN else HTTPStatus.OK


def _answer(view: Shown, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Response:
    return Response(encoded(view), status, {**_HEADERS, **headers}, media_type="application/json")
