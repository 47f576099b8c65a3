"""The gRPC server: its limits, and how it ends."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, cast

import grpc
import structlog
from grpc import aio
from grpc_reflection.v1alpha import reflection

_KIBIBYTE: Final = 1024
_MEBIBYTE: Final = 1024 * _KIBIBYTE

#: A SubmitTasks of 1,000 has 16 KiB for each. What is larger is refused by gRPC itself, with its
#: own RESOURCE_EXHAUSTED, before any of it is decoded.
LARGEST_REQUEST: Final = 16 * _MEBIBYTE
#: Calls at the same time in this process, streams included; more are refused by gRPC itself.
MOST_CALLS: Final = 8192

#: Bounds of what one connection, and a silent or greedy peer, can take.
OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", 64 * _MEBIBYTE),
    ("grpc.max_metadata_size", 16 * _KIBIBYTE),
    ("grpc.absolute_max_metadata_size", 16 * _KIBIBYTE),
    # A page of a watcher has one stream for each task it shows.
    ("grpc.max_concurrent_streams", 1024),
    # A peer that does not get through its handshake.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A peer that has gone without a word.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer that pings without end. Clients may ping every 10 s, with or without a call.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    # Connections without calls, and those that would keep their balancer's choice for ever. The
    # grace is for the longest WaitTask.
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    ("grpc.max_connection_age_ms", 60 * 60_000),
    ("grpc.max_connection_age_grace_ms", 11 * 60_000),
    # Two servers on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AddressTaken(Exception):
    """The server cannot listen at its address."""


class Server:
    """Listens at an address for the calls of some handlers."""

    def __init__(
        self,
        address: str,
        handlers: Sequence[grpc.GenericRpcHandler],
        *,
        reflected: Sequence[str] = (),
    ) -> None:
        self._server = aio.server(options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
        self._server.add_generic_rpc_handlers(handlers)
        if reflected:
            names = (*reflected, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._address = address
        #: The port it listens on; zero before it has started and after it has stopped.
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises AddressTaken."""
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise AddressTaken(f"cannot listen at {self._address}: {error}") from error
        await self._server.start()
        _log.info("server_started", address=self._address, port=self.port)

    async def stop(self, *, grace: timedelta) -> None:
        """Take no new calls, let the others end within *grace*, and close. Again: nothing."""
        port, self.port = self.port, 0
        if port:
            await self._server.stop(grace.total_seconds())
            _log.info("server_stopped", port=port)
