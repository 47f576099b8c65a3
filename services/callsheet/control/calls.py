"""What surrounds every call: key, decoding, time limit, and the translation of refusals.

Each method of a service is served by one coroutine that takes and gives bytes, so that malformed
bytes meet our own decoding, and an event that goes to many watchers is encoded once.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Final, TypeAlias, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from callsheet.control.authentication import Authentication, Metadata
from callsheet.control.errors import Refused, meaning, sentence, trailing_metadata
from callsheet.control.refusals import DeadlinePassed, Defect, EdgeRefusal, MessageMalformed
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerError, LedgerUnavailable, UnknownVersion
from callsheet.runtime.trace import TRACEPARENT, new_trace, parse_traceparent

#: How long a unary call may take, whatever its client allows.
LIMIT: Final = timedelta(seconds=30)

Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"
Unary = Callable[[Message, "Call"], Awaitable[Message]]
Stream = Callable[[Message, "Call"], AsyncGenerator[bytes, None]]

_ENDS_BY_ITSELF: Final = nullcontext()
_NOBODY: Final = Principal("", frozenset(), frozenset())


class Call:
    """One call: who makes it, and what came with it."""

    __slots__ = ("_context", "_metadata", "principal")

    def __init__(self, principal: Principal, metadata: Metadata, context: Context) -> None:
        self.principal = principal
        self._metadata = metadata
        self._context = context

    @property
    def trace_parent(self) -> str:
        """The trace the call belongs to; a new one when it names none."""
        text = next((value for name, value in self._metadata if name == TRACEPARENT), None)
        trace = parse_traceparent(text) if isinstance(text, str) else None
        return str(trace or new_trace())

    @property
    def remaining(self) -> timedelta | None:
        """How long the client still waits; None: as long as it takes."""
        seconds = cast("float | None", self._context.time_remaining())
        # A client may allow centuries; a timedelta ends at 2.7 million years, a float does not.
        return None if seconds is None else timedelta(seconds=max(0.0, min(seconds, 1e9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """One service of the contract, and who serves it: a method for each, of the same name."""

    descriptor: ServiceDescriptor
    servicer: object
    limits: Mapping[str, timedelta] = field(default_factory=dict[str, timedelta])
    #: Whether a call needs no key.
    public: bool = False


class Calls:
    """Makes the gRPC handlers of services."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        # Bound once: a logger that is off then costs one call of nothing.
        self._log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger().bind())

    def handler(self, plan: ServicePlan) -> grpc.GenericRpcHandler:
        """Return the handler of a service. Raises AttributeError when a method is not served."""
        methods = {method.name: self._method(plan, method) for method in plan.descriptor.methods}
        return grpc.method_handlers_generic_handler(plan.descriptor.full_name, methods)

    def _method(
        self, plan: ServicePlan, method: MethodDescriptor
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        serve = getattr(plan.servicer, method.name)
        request = GetMessageClass(method.input_type)
        edge = _Edge(self._authentication, self._log, method, request, public=plan.public)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(edge.stream(serve))
        limit = plan.limits.get(method.name, LIMIT)
        return grpc.unary_unary_rpc_method_handler(edge.unary(serve, limit=limit))


class _Edge:
    """What surrounds the calls of one method."""

    def __init__(
        self,
        authentication: Authentication,
        log: structlog.typing.FilteringBoundLogger,
        method: MethodDescriptor,
        request: type[Message],
        *,
        public: bool,
    ) -> None:
        self._authentication = authentication
        self._log = log
        self._name = method.full_name
        self._request = request
        self._public = public

    def unary(
        self, serve: Unary, *, limit: timedelta
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """Return the coroutine function that serves a unary method."""
        seconds = limit.total_seconds()

        async def answer(content: bytes, context: Context) -> bytes:
            started = monotonic()
            try:
                async with _patience(context, seconds):
                    request, call = await self._open(content, context)
                    response = (await serve(request, call)).SerializeToString()
            except Exception as error:  # noqa: BLE001  # whatever it is, the client is told and it is logged
                return await self._refuse(error, context, limit=limit, started=started)
            self._log.debug("call_answered", method=self._name, code="OK", seconds=_since(started))
            return response

        return answer

    def stream(self, serve: Stream) -> Callable[[bytes, Context], Awaitable[None]]:
        """Return the coroutine function that serves a method with a stream of responses."""

        async def answer(content: bytes, context: Context) -> None:
            started = monotonic()
            try:
                request, call = await self._open(content, context)
                async with self._standing(context), aclosing(serve(request, call)) as responses:
                    async for response in responses:
                        await context.write(response)
            except Exception as error:  # noqa: BLE001  # whatever it is, the client is told and it is logged
                await self._refuse(error, context, limit=LIMIT, started=started)
            self._log.debug("call_answered", method=self._name, code="OK", seconds=_since(started))

        return answer

    async def _open(self, content: bytes, context: Context) -> tuple[Message, Call]:
        """Return the decoded request, and the call; the key comes before anything else."""
        metadata = _metadata(context)
        principal = _NOBODY if self._public else await self._authentication.principal(metadata)
        try:
            request = self._request.FromString(content)
        except DecodeError:
            raise MessageMalformed(self._request.DESCRIPTOR.full_name) from None
        return request, Call(principal, metadata, context)

    def _standing(self, context: Context) -> AbstractAsyncContextManager[object]:
        """Return what ends a stream whose key or ticket no longer stands."""
        if self._public:
            return _ENDS_BY_ITSELF
        return self._authentication.standing(_metadata(context))

    async def _refuse(
        self, error: Exception, context: Context, *, limit: timedelta, started: float
    ) -> bytes:
        refusal = self._refusal(error, limit=limit)
        code = meaning(refusal).code
        self._log.debug("call_answered", method=self._name, code=code.name, seconds=_since(started))
        await context.abort(code, sentence(refusal), trailing_metadata(refusal))

    def _refusal(self, error: Exception, *, limit: timedelta) -> Refused:
        match error:
            case LedgerUnavailable(reason=reason):
                self._log.debug("ledger_unavailable", method=self._name, reason=reason)
                return error
            case UnknownVersion():
                self._log.error("record_version_unknown", method=self._name, reason=str(error))
                return error
            case LedgerError() | EdgeRefusal():
                return error
            case TimeoutError():
                return DeadlinePassed(limit)
            case _:
                reference = secrets.token_hex(8)
                self._log.error(
                    "call_failed", method=self._name, reference=reference, exc_info=error
                )
                return Defect(reference)


def _patience(context: Context, seconds: float) -> AbstractAsyncContextManager[object]:
    """Return what ends a call after so long; gRPC itself ends one whose own deadline is nearer."""
    remaining = cast("float | None", context.time_remaining())
    if remaining is not None and remaining <= seconds:
        return _ENDS_BY_ITSELF
    return asyncio.timeout(seconds)


def _metadata(context: Context) -> Metadata:
    return cast("Metadata", context.invocation_metadata() or ())


def _since(started: float) -> float:
    return round(monotonic() - started, 6)
