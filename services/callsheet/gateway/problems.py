"""What a refused request is told: RFC 9457 problems, with the reasons that gRPC gives too."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Final, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from callsheet.client import errors
from callsheet.client.errors import CallError, Violation

#: The media type of a problem.
PROBLEM_TYPE: Final = "application/problem+json"

_S = HTTPStatus
_MOST_VIOLATIONS: Final = 32
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

#: Each kind of error of a call, the only place that knows what it is in HTTP.
STATUSES: Final[Mapping[type[CallError], HTTPStatus]] = MappingProxyType(
    {
        errors.InvalidArgument: _S.BAD_REQUEST,
        errors.Unauthenticated: _S.UNAUTHORIZED,
        errors.PermissionDenied: _S.FORBIDDEN,
        errors.NotFound: _S.NOT_FOUND,
        errors.TaskNotFound: _S.NOT_FOUND,
        errors.AlreadyExists: _S.CONFLICT,
        errors.FailedPrecondition: _S.CONFLICT,
        errors.OutOfRange: _S.BAD_REQUEST,
        errors.ResourceExhausted: _S.TOO_MANY_REQUESTS,
        errors.Aborted: _S.CONFLICT,
        # What the reader remembers is no longer there: it has to start anew.
        errors.DataLoss: _S.GONE,
        errors.Unavailable: _S.SERVICE_UNAVAILABLE,
        errors.DeadlineExceeded: _S.GATEWAY_TIMEOUT,
        errors.CallCancelled: _S.SERVICE_UNAVAILABLE,
        errors.Unimplemented: _S.NOT_IMPLEMENTED,
        errors.Internal: _S.INTERNAL_SERVER_ERROR,
        errors.Unknown: _S.BAD_GATEWAY,
    }
)

#: The reasons of what the routing itself refuses.
_ROUTING: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        404: ("ROUTE_NOT_FOUND", "there is nothing at this path"),
        405: ("METHOD_NOT_ALLOWED", "this path does not take this method"),
    }
)

#: When to come again, for whoever was refused because the plane was away and did not say.
_LATER: Final = timedelta(seconds=1)


class Refused(Exception):
    """A request is refused; it changed nothing."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(detail)
        self.status = status
        #: A word for machines, such as FIELD_INVALID.
        self.reason = reason
        #: One sentence for people.
        self.detail = detail
        #: The fields at fault.
        self.violations = tuple(violations)
        #: When another try may succeed. None: it does not help, or nobody knows.
        self.retry_after = retry_after
        #: What the answer's header says besides.
        self.headers = headers


def refused_of(error: CallError) -> Refused:
    """Return what a failed call of the plane is in HTTP."""
    status = STATUSES[type(error)]
    later = _LATER if status is _S.SERVICE_UNAVAILABLE else None
    return Refused(
        status,
        error.reason or error.code.name,
        error.message,
        violations=error.violations,
        retry_after=error.retry_delay or later,
    )


def invalid(violations: Iterable[Violation]) -> Refused:
    """Return the refusal of fields at fault: 400, as gRPC's FIELD_INVALID."""
    found = list(violations)
    first = f"{found[0].field}: {found[0].description}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Refused(
        _S.BAD_REQUEST,
        "FIELD_INVALID",
        first + more,
        violations=found[:_MOST_VIOLATIONS],
    )


def problem(refused: Refused) -> dict[str, object]:
    """Return the fields of the problem."""
    fields: dict[str, object] = {
        "type": f"tag:callsheet.dev,2026:{refused.reason}",
        "title": refused.status.phrase,
        "status": refused.status.value,
        "detail": refused.detail,
        "reason": refused.reason,
        "violations": [
            {"field": each.field, "description": each.description} for each in refused.violations
        ],
    }
    if refused.retry_after is not None:
        fields["retry_after"] = _seconds(refused.retry_after)
    return fields


def problem_response(refused: Refused) -> Response:
    """Return the problem as an answer."""
    headers = {"cache-control": "no-store", **refused.headers}
    if refused.retry_after is not None:
        headers["retry-after"] = str(_seconds(refused.retry_after))
    if refused.status is _S.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="callsheet"'
    return Response(
        encoded(problem(refused)), refused.status.value, headers, media_type=PROBLEM_TYPE
    )


def encoded(value: object) -> bytes:
    """Return JSON as it is sent; what is no Unicode text becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


async def answer_refused(_: Request, error: Exception) -> Response:
    """Answer what a route refused."""
    return problem_response(cast("Refused", error))


async def answer_call_error(_: Request, error: Exception) -> Response:
    """Answer a call of the plane that failed."""
    return problem_response(refused_of(cast("CallError", error)))


async def answer_http_error(_: Request, error: Exception) -> Response:
    """Answer what the routing refused."""
    found = cast("HTTPException", error)
    status = HTTPStatus(found.status_code)
    reason, detail = _ROUTING.get(status.value, (status.name, status.phrase))
    return problem_response(Refused(status, reason, detail, headers=found.headers or _NO_HEADERS))


def _seconds(span: timedelta) -> int:
    return max(1, ceil(span.total_seconds()))
