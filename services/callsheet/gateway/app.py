"""The routes of all parts, put together into one application."""

from collections.abc import Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from callsheet.client.errors import CallError
from callsheet.gateway.edge import Edge, Keys
from callsheet.gateway.limits import RateLimit
from callsheet.gateway.problems import (
    Refused,
    answer_call_error,
    answer_http_error,
    answer_refused,
)
from callsheet.gateway.renewal import Renewal, Renewing
from callsheet.runtime.settings import Settings

#: What a page of another origin may send, and read of the answer.
_CORS_HEADERS = (
    "authorization",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "traceparent",
    "x-api-key",
    "x-user-agent",
)
_CORS_EXPOSED = ("etag", "location", "retry-after")
_CORS_METHODS = ("GET", "POST", "DELETE")
_PREFLIGHT_SECONDS = 600


class Application(Starlette):
    """Routes, and problems for what they refuse; a defect goes on to the edge."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        super().__init__(
            routes=list(routes),
            exception_handlers={
                CallError: answer_call_error,
                HTTPException: answer_http_error,
                Refused: answer_refused,
            },
        )
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        """Return the routes with their problems; without Starlette's own answer to defects."""
        return ExceptionMiddleware(self.router, handlers=dict(self.exception_handlers))


def build_app(
    routes: Iterable[BaseRoute],
    settings: Settings,
    *,
    keys: Keys | None = None,
    renewal: Renewal | None = None,
) -> ASGIApp:
    """Return the application that serves the routes, first match first.

    *keys*: None where no route asks control about any; *renewal*: None where nobody signs in.
    """
    rate = settings.gateway_requests_per_second
    application = Application(routes)
    edge = Edge(
        application if renewal is None else Renewing(application, renewal),
        keys=keys,
        requests=RateLimit(per_second=rate, burst=4 * rate),
        # A file comes in a form of some more bytes.
        largest_body=settings.upload_largest_bytes + 2**20,
    )
    return _open_to(settings.cors_origins, edge)


def _open_to(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Let pages of other origins in: with a key in a header, never by a cookie."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=list(_CORS_METHODS),
        allow_headers=list(_CORS_HEADERS),
        expose_headers=list(_CORS_EXPOSED),
        max_age=_PREFLIGHT_SECONDS,
    )
