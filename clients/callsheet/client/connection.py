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
from callsheet.v1 import (
    access_service_pb2_grpc,
    operations_service_pb2_grpc,
    task_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

    from callsheet.v1.access_service_pb2_grpc import AccessServiceAsyncStub
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
    # Channels to one address would share a connection, whose streams the server limits.
    ("grpc.use_local_subchannel_pool", 1),
)

_LOOPBACK: Final = ("127.", "localhost", "[::1]", "unix:", "ipv4:127.", "ipv6:[::1]")


class Channel:
    """A gRPC channel, opened with the first call on the loop that makes it, and its stubs."""

    def __init__(self, address: str, *, tls: grpc.ChannelCredentials | None = None) -> None:
        self.address = address
        self._tls = tls
        self._stubs: _Stubs | None = None
        self._closed = False

    @property
    def stubs(self) -> _Stubs:
        """The stubs of all services. Raises RuntimeError once it is closed."""
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._stubs is None:
            self._stubs = _Stubs(_new_channel(self.address, tls=self._tls))
        return self._stubs

    async def close(self) -> None:
        """Close it; calls under way are cancelled. Closing twice is no error."""
        self._closed = True
        stubs, self._stubs = self._stubs, None
        if stubs is not None:
            await stubs.channel.close()


class _Stubs:
    """The raw stubs over one channel, made once: each makes an object for each of its methods."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.tasks: TaskServiceAsyncStub = task_service_pb2_grpc.TaskServiceStub(channel)
        self.operations: OperationsServiceAsyncStub = (
            operations_service_pb2_grpc.OperationsServiceStub(channel)
        )
        self.access: AccessServiceAsyncStub = access_service_pb2_grpc.AccessServiceStub(channel)


class Connection:
    """One key's calls over a channel."""

    def __init__(
        self,
        channel: Channel,
        *,
        key: str,
        backoff: BackoffPolicy | None = None,
        shared: bool = False,
    ) -> None:
        """*shared*: the channel is somebody else's, and stays open when this is closed.

        Raises ValueError for an empty address or a key that cannot be one.
        """
        if not channel.address:
            raise ValueError("the address must not be empty")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the API key must be printable ASCII without spaces")
        self._channel = channel
        self._key = key
        self._backoff = backoff or BackoffPolicy()
        self._shared = shared

    @property
    def address(self) -> str:
        """The address of the control plane."""
        return self._channel.address

    @property
    def tasks(self) -> TaskServiceAsyncStub:
        """The raw stub of TaskService."""
        return self._channel.stubs.tasks

    @property
    def operations(self) -> OperationsServiceAsyncStub:
        """The raw stub of OperationsService."""
        return self._channel.stubs.operations

    @property
    def access(self) -> AccessServiceAsyncStub:
        """The raw stub of AccessService."""
        return self._channel.stubs.access

    def with_key(self, key: str) -> Connection:
        """Return another key's calls over the same channel. Raises ValueError."""
        return Connection(self._channel, key=key, backoff=self._backoff, shared=True)

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
        """Close the channel, if it is this connection's own. Closing twice is no error."""
        if not self._shared:
            await self._channel.close()

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
