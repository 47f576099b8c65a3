"""Connect for browsers: the services of the contract, passed on to the control plane.

The protocol is served here, not by connectrpc: that package would bring an HTTP client and a second
protobuf runtime, of whose messages the details of errors have to be, for what are two shapes of a
request.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client.connection import Connection
from callsheet.client.errors import CallError, Unauthenticated
from callsheet.gateway.bodies import media_type_of, read_body
from callsheet.gateway.connect_wire import (
    CODECS,
    STATUSES,
    Codec,
    connect_error,
    end_of_stream,
    enveloped,
    single_message,
)
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.edge import KEY_REFUSED
from callsheet.gateway.limits import StreamLimit
from callsheet.gateway.plane import TIMEOUT, Plane
from callsheet.gateway.problems import Refused, encoded
from callsheet.gateway.renewal import stream_time
from callsheet.gateway.streams import HEARTBEAT, CountedStream, beating
from callsheet.gateway.submissions import accepted_specs, trace_of
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.v1 import access_service_pb2, operations_service_pb2, task_service_pb2

#: The largest request.
LARGEST: Final = 4 * 2**20
#: A stream lasts as long; its reader then asks anew, behind its cursor.
LONGEST_STREAM: Final = timedelta(hours=1)
#: WaitTask waits for at most ten minutes.
_LONGEST_WAIT: Final = timedelta(minutes=11)

#: Each service, and where the client has its stub.
SERVICES: Final[Mapping[str, ServiceDescriptor]] = MappingProxyType(
    {
        "tasks": task_service_pb2.DESCRIPTOR.services_by_name["TaskService"],
        "operations": operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"],
        "access": access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
    }
)
_UNARY: Final = "application/"
_STREAMED: Final = "application/connect+"
_VERSION: Final = "connect-protocol-version"
_TIMEOUT: Final = "connect-timeout-ms"
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What all methods are served with."""

    plane: Plane
    quota: UploadQuota
    streams: StreamLimit
    stopping: asyncio.Event


class Connect:
    """The routes of all methods of the contract."""

    def __init__(
        self,
        plane: Plane,
        quota: UploadQuota,
        *,
        streams: StreamLimit,
        stopping: asyncio.Event,
    ) -> None:
        self._with = _Surroundings(plane=plane, quota=quota, streams=streams, stopping=stopping)

    def routes(self) -> list[BaseRoute]:
        """Return the routes: one for each method."""
        return list(self._routes())

    def _routes(self) -> Iterator[BaseRoute]:
        for stub, service in SERVICES.items():
            for method in service.methods:
                kind = _Streaming if method.server_streaming else _Unary
                serve = kind(method, stub, self._with)
                methods = ["POST", "GET"] if serve.takes_get else ["POST"]
                path = f"/{service.full_name}/{method.name}"
                yield Route(path, serve.answer, methods=methods)


class _Method:
    """One method of the contract."""

    takes_get = False

    def __init__(self, method: MethodDescriptor, stub: str, surroundings: _Surroundings) -> None:
        self._method = method
        self._stub = stub
        self._plane = surroundings.plane
        self._quota = surroundings.quota
        self._streams = surroundings.streams
        self._stopping = surroundings.stopping
        self._kind = GetMessageClass(method.input_type)

    def _call(self, connection: Connection) -> Any:  # noqa: ANN401 - of whichever method it is
        return getattr(getattr(connection, self._stub), self._method.name)


class _Unary(_Method):
    """A method with one response."""

    def __init__(self, method: MethodDescriptor, stub: str, surroundings: _Surroundings) -> None:
        super().__init__(method, stub, surroundings)
        level = method.GetOptions().idempotency_level
        self.takes_get = level == MethodOptions.NO_SIDE_EFFECTS
        self._waits = method.name == "WaitTask"

    async def answer(self, request: Request) -> Response:
        """Answer the call."""
        try:
            connection = (await self._plane.caller(request)).connection
            codec, content = await self._content(request)
            message = codec.decode(content, self._kind)
            with ExitStack() as stack:
                if self._waits:  # as long as a stream, and so it counts as one
                    credential = credential_of(request)
                    stack.enter_context(self._streams.opened(credential))
                    connection = self._plane.streamer(credential).connection
                answer = await connection.call(
                    self._call(connection),
                    message,
                    timeout=_time_limit(request, longest=_LONGEST_WAIT if self._waits else TIMEOUT),
                    trace_parent=trace_of(request),
                )
        except (CallError, Refused) as error:
            return _failed(error)
        for project, spec in accepted_specs(message, cast("Message", answer)):
            await self._quota.used(project, spec.SerializeToString())
        return Response(
            codec.encode(cast("Message", answer)),
            headers={"cache-control": "no-store"},
            media_type=f"{_UNARY}{codec.name}",
        )

    async def _content(self, request: Request) -> tuple[Codec, bytes]:
        if request.method == "GET":
            return _from_query(request)
        codec = _codec(request, _UNARY)
        _check_version(request.headers.get(_VERSION, "1"))
        return codec, await read_body(request, limit=LARGEST)


class _Streaming(_Method):
    """A method with a stream of responses."""

    async def answer(self, request: Request) -> Response:
        """Answer the call; whatever becomes of it stands at the end of the stream."""
        try:
            credential = credential_of(request)
            principal = await self._plane.principal(credential)
            connection = self._plane.streamer(credential).connection
        except (CallError, Refused) as error:
            if isinstance(error, Unauthenticated):
                request.scope["state"][KEY_REFUSED] = True
            known = _codec_named(request, _STREAMED)
            return _failed(error) if known is None else _ended(known, error)
        codec = _codec(request, _STREAMED)
        body = await read_body(request, limit=LARGEST)
        return CountedStream(
            self._responses(
                request,
                connection,
                codec,
                body,
                longest=stream_time(principal, longest=LONGEST_STREAM),
            ),
            limit=self._streams,
            caller=credential,
            headers=_HEADERS,
            media_type=f"{_STREAMED}{codec.name}",
        )

    async def _responses(
        self,
        request: Request,
        connection: Connection,
        codec: Codec,
        body: bytes,
        *,
        longest: timedelta,
    ) -> AsyncGenerator[bytes, None]:
        try:
            _check_version(request.headers.get(_VERSION, "1"))
            responses = connection.stream(
                self._call(connection),
                codec.decode(single_message(body), self._kind),
                timeout=_time_limit(request, longest=longest),
                trace_parent=trace_of(request),
            )
            beats = beating(responses, stopping=self._stopping, heartbeat=HEARTBEAT)
            async with aclosing(beats):
                async for response in beats:
                    if response is not None:
                        yield enveloped(codec.encode(cast("Message", response)))
        except (CallError, Refused) as error:
            yield end_of_stream(connect_error(error))
            return
        yield end_of_stream(connect_error(_ENDING) if self._stopping.is_set() else None)


def _codec_named(request: Request, prefix: str) -> Codec | None:
    name = media_type_of(request)
    return CODECS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None


def _codec(request: Request, prefix: str) -> Codec:
    """Return the codec that the content-type names. Raises Refused, 415."""
    codec = _codec_named(request, prefix)
    if codec is None:
        known = ", ".join(f"{prefix}{name}" for name in CODECS)
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "MEDIA_TYPE_UNSUPPORTED",
            f"the content-type must be one of {known}",
            headers={"accept-post": known},
        )
    return codec


def _from_query(request: Request) -> tuple[Codec, bytes]:
    query = request.query_params
    _check_version(query.get("connect", "v1").removeprefix("v"))
    codec = CODECS.get(query.get("encoding", ""))
    if codec is None or query.get("compression", "identity") not in {"", "identity"}:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "MEDIA_TYPE_UNSUPPORTED",
            f"the encoding must be one of {', '.join(CODECS)}, without compression",
        )
    text = query.get("message", "")
    if query.get("base64") != "1":
        return codec, text.encode()
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return codec, base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            HTTPStatus.BAD_REQUEST, "MESSAGE_MALFORMED", "the message is not base64 of a URL"
        ) from None


def _check_version(version: str) -> None:
    if version != "1":
        raise Refused(
            HTTPStatus.BAD_REQUEST, "VERSION_UNKNOWN", f"{_VERSION} must be 1, not {version[:16]!r}"
        )


def _time_limit(request: Request, *, longest: timedelta) -> timedelta:
    """Return how long the caller waits, at most *longest*. Raises Refused, 400."""
    text = request.headers.get(_TIMEOUT)
    if text is None:
        return longest
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "TIMEOUT_MALFORMED",
            f"{_TIMEOUT} must be at most ten digits",
        )
    return min(timedelta(milliseconds=int(text)), longest)


def _failed(error: CallError | Refused) -> Response:
    found = connect_error(error)
    is_refused = isinstance(error, Refused)
    return Response(
        encoded(found.fields()),
        error.status.value if is_refused else STATUSES[found.code],
        {"cache-control": "no-store", **(error.headers if is_refused else {})},
        media_type="application/json",
    )


def _ended(codec: Codec, error: CallError | Refused) -> Response:
    return Response(
        end_of_stream(connect_error(error)),
        headers=_HEADERS,
        media_type=f"{_STREAMED}{codec.name}",
    )


_ENDING: Final = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "SHUTTING_DOWN",
    "this gateway is shutting down: ask again",
    retry_after=timedelta(milliseconds=500),
)
