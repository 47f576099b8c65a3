"""grpc.health.v1: SERVING while the ledger answers and this server is not about to end."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from callsheet.control.calls import Call
from callsheet.control.refusals import ServiceUnknown

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING


class Health:
    """Tells load balancers and probes whether calls will be answered; it asks for no key."""

    def __init__(self, services: Iterable[str]) -> None:
        # The empty name stands for the server as a whole.
        self._services = frozenset({"", *services})
        self._is_serving = False
        self._is_ending = False
        self._changed = asyncio.Event()

    def set(self, is_serving: bool) -> None:  # noqa: FBT001  # a listener of Pulse gets it so
        """Note whether the ledger answers."""
        if is_serving != self._is_serving:
            self._is_serving = is_serving
            self._tell()

    def shut_down(self) -> None:
        """Be NOT_SERVING from now on, and end the streams of Watch after telling them."""
        self._is_ending = True
        self._tell()

    async def Check(self, request: HealthCheckRequest, call: Call) -> HealthCheckResponse:
        """Answer a service's status. Raises ServiceUnknown."""
        if request.service not in self._services:
            raise ServiceUnknown(request.service[:64])
        return HealthCheckResponse(status=self._status())

    async def List(self, request: HealthListRequest, call: Call) -> HealthListResponse:
        """Answer the status of every service."""
        status = HealthCheckResponse(status=self._status())
        return HealthListResponse(statuses=dict.fromkeys(self._services, status))

    async def Watch(self, request: HealthCheckRequest, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield a service's status now and whenever it changes."""
        if request.service not in self._services:
            unknown = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            yield unknown.SerializeToString()
            return
        told: int | None = None
        while True:
            changed, status = self._changed, self._status()
            if status != told:
                told = status
                yield HealthCheckResponse(status=status).SerializeToString()
            if self._is_ending:
                return
            await changed.wait()

    def _status(self) -> "HealthCheckResponse.ServingStatus":
        return _SERVING if self._is_serving and not self._is_ending else _NOT_SERVING

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
