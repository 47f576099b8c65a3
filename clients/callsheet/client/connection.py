"""One channel to the control plane, and the rules that every call over it obeys.

Each call has a deadline, carries the key and a trace context, and fails with a typed error. Every
method of the contract may be repeated (its idempotency_level says so, and the client always sends
a request_id), so what is transient is tried again until the call's timeout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from grpc import aio

from callsheet.client.errors import from_rpc_error
from callsheet.client.retry import Backoff, BackoffPolicy, retrying
from callsheet.client.trace import checked_trace_parent
from callsheet.v1 import operations_service_pb2_grpc, task_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

    from callsheet.v1.operations_service_pb2_grpc import OperationsServiceAsyncStub
    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

_MEBIBYTE: Final = 1024 * 1024

_CHANNEL_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.primary_user_agent", "callsheet-python"),
    # A page of 200 large tasks is more than gRPC's own 4 MiB.
    ("grpc.max_receive_message_length", 16 * _MEBIBYTE),
    # A silent peer is found out while a call is open; the server must allow pings this often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A restarted plane is found again at once; one connection attempt may take five seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

_LOOPBACK: Final = ("127.", "localhost", "[::1]", "unix:", "ipv4:127.", "ipv6:[::1]")


class Connection:
    """The channel, opened with the first call on the loop that makes it."""

    def __init__(
        self,
        address: str,
        *,
        key: str,
        tls: grpc.ChannelCredentials | None = None,
        backoff: BackoffPolicy | None = None,
    ) -> None:
        if not address:
            raise ValueError("the address must not be empty")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the API key must be printable ASCII without spaces")
        self.address = address
        self._key = key
        self._tls = tls
        self._backoff = backoff or BackoffPolicy()
        self._channel: aio.Channel | None = None
        self._closed = False

    @property
    def tasks(self) -> TaskServiceAsyncStub:
        """The raw stub of TaskService."""
        return task_service_pb2_grpc.TaskServiceStub(self._open_channel())

    @property
    def operations(self) -> OperationsServiceAsyncStub:
        """The raw stub of OperationsService."""
        return operations_service_pb2_grpc.OperationsServiceStub(self._open_channel())

    def new_backoff(self) -> Backoff:
        """Return a fresh back-off of this connection's policy."""
        return Backoff(self._backoff)

    async def call(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: timedelta,
        trace_parent: str | None = None,
    ) -> Response:
        """Answer one call, repeated while that helps and the timeout allows.

        Raises CallError.
        """
        metadata = self._metadata(trace_parent)

        async def attempt(remaining: timedelta) -> Response:
            return await _call_once(method, request, timeout=remaining, metadata=metadata)

        return await retrying(attempt, timeout=timeout, backoff=self.new_backoff())

    async def once(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: timedelta,
        trace_parent: str | None = None,
    ) -> Response:
        """Answer one call, tried once. Raises CallError."""
        return await _call_once(
            method, request, timeout=timeout, metadata=self._metadata(trace_parent)
        )

    async def stream(
        self,
        method: aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: timedelta,
        trace_parent: str | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Yield the answers of one streaming call, tried once; leaving it ends the call.

        Raises CallError.
        """
        call = method(
            request,
            timeout=timeout.total_seconds(),
            metadata=self._metadata(trace_parent),
        )
        try:
            async for response in call:
                yield response
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled. Closing twice is no error."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _open_channel(self) -> aio.Channel:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._channel is None:
            self._channel = _new_channel(self.address, tls=self._tls)
        return self._channel

    def _metadata(self, trace_parent: str | None) -> tuple[tuple[str, str], ...]:
        return (
            ("authorization", f"Bearer {self._key}"),
            ("traceparent", checked_trace_parent(trace_parent)),
        )


async def _call_once(
    method: aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    *,
    timeout: timedelta,
    metadata: tuple[tuple[str, str], ...],
) -> Response:
    try:
        return await method(request, timeout=timeout.total_seconds(), metadata=metadata)
    except aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def _new_channel(address: str, *, tls: grpc.ChannelCredentials | None) -> aio.Channel:
    options: list[tuple[str, int | str]] = [*_CHANNEL_OPTIONS]
    if address.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))  # no proxy reaches this very machine
    if tls is None:
        return aio.insecure_channel(address, options=options)
    return aio.secure_channel(address, tls, options=options)
