"""Whether a control plane serves: the standard health check of gRPC, which asks for no key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from grpc import aio

from callsheet.client.errors import from_rpc_error

if TYPE_CHECKING:
    from datetime import timedelta

_METHOD: Final = "/grpc.health.v1.Health/Check"
#: An empty HealthCheckRequest: the server as a whole.
_WHOLE_SERVER: Final = b""
#: HealthCheckResponse{status: SERVING}. Its generated code is no part of the light client.
_SERVING: Final = b"\x08\x01"
_LOOPBACK: Final = ("127.", "localhost", "[::1]", "unix:")


class ControlHealth:
    """Asks one control plane how it is, over a channel of its own; to be closed at the end."""

    def __init__(self, address: str, *, tls: grpc.ChannelCredentials | None = None) -> None:
        self._address = address
        self._tls = tls
        self._channel: aio.Channel | None = None

    async def is_serving(self, *, timeout: timedelta) -> bool:
        """Whether its calls are answered; False: it runs, and its ledger does not answer.

        Raises CallError when it does not answer in time, or is no control plane.
        """
        if self._channel is None:
            self._channel = self._opened()
        ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_METHOD)
        try:
            answer = await ask(_WHOLE_SERVER, timeout=timeout.total_seconds())
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return answer == _SERVING

    async def close(self) -> None:
        """Close the channel. Closing twice is no error."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _opened(self) -> aio.Channel:
        options: list[tuple[str, int | str]] = [
            # Somebody looks every few seconds, and wants to know when it is back.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ]
        if self._address.startswith(_LOOPBACK):
            options.append(("grpc.enable_http_proxy", 0))  # no proxy reaches this very machine
        if self._tls is None:
            return aio.insecure_channel(self._address, options=options)
        return aio.secure_channel(self._address, self._tls, options=options)
