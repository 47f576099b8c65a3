"""The wire of the fake plane: keys, refusals as status details, answers as messages."""

from __future__ import annotations

import hmac
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from callsheet.client.errors import DETAILS_KEY, CallError, Unauthenticated, Unavailable
from callsheet.client.submission import to_duration
from callsheet.v1.access_service_pb2 import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from grpc.aio import ServicerContext

    #: What gRPC passes to every method; its type arguments say nothing here.
    Context = ServicerContext[Any, Any]

Response = TypeVar("Response")

_DOMAIN = "callsheet.dev"


@dataclass(frozen=True)
class Call:
    """One call as the fake plane received it."""

    #: The method's name, such as SubmitTask.
    method: str
    request: Message
    #: The text metadata, with the key and the traceparent.
    metadata: Mapping[str, str]


@dataclass
class Wire:
    """What stands between a call and the plane: its key, and the faults a test asked for."""

    key: str
    calls: list[Call] = field(default_factory=list[Call])
    refusals: dict[str, deque[CallError]] = field(default_factory=dict[str, "deque[CallError]"])
    lost_replies: dict[str, int] = field(default_factory=dict[str, int])
    #: The tickets that were made, and whom they stand for.
    tickets: dict[str, Principal] = field(default_factory=dict[str, Principal])

    async def answer(
        self,
        context: Context,
        request: Message,
        produce: Callable[[], Awaitable[Response]],
        *,
        method: str,
    ) -> Response:
        """Answer one call with what ``produce`` makes, or fail it as the real service would."""
        try:
            self.admit(context, request, method=method)
            response = await produce()
            if self.lost_replies.get(method, 0):
                self.lost_replies[method] -= 1
                raise Unavailable("the answer was lost on its way")
        except CallError as error:
            await abort(context, error)
        return response

    def admit(self, context: Context, request: Message, *, method: str) -> None:
        """Record the call. Raises Unauthenticated, and what a test told it to."""
        self.calls.append(Call(method, request, _metadata(context)))
        self._check_key(self.credential(context))
        self.refuse(method)

    def credential(self, context: Context) -> str:
        """Return the key or ticket that the call was made with."""
        metadata = _metadata(context)
        key = metadata.get("authorization", "").removeprefix("Bearer ")
        return key or metadata.get("x-api-key", "")

    def refuse(self, method: str) -> None:
        """Raise the next refusal that a test asked for, if there is one."""
        waiting = self.refusals.get(method)
        if waiting:
            raise waiting.popleft()

    def _check_key(self, key: str) -> None:
        if not key:
            raise Unauthenticated("an API key is needed", reason="KEY_MISSING")
        if key in self.tickets:
            return
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            raise Unauthenticated("the API key is not valid", reason="KEY_INVALID")


async def abort(context: Context, error: CallError) -> NoReturn:
    """End the call with the error's status and details."""
    status = Status(code=error.code.value[0], message=error.message)
    info = ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata)
    details: list[Message] = [info] if error.reason else []
    if error.retry_delay is not None:
        details.append(RetryInfo(retry_delay=to_duration(error.retry_delay)))
    if error.violations:
        violations = [
            BadRequest.FieldViolation(field=each.field, description=each.description)
            for each in error.violations
        ]
        details.append(BadRequest(field_violations=violations))
    for detail in details:
        status.details.add().Pack(detail)
    trailing = ((DETAILS_KEY, status.SerializeToString()),) if details else ()
    await context.abort(error.code, error.message, trailing)


def _metadata(context: Context) -> dict[str, str]:
    return {
        name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)
    }
