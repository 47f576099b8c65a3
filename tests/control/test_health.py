"""grpc.health.v1: what probes and load balancers see."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from tests.support.controls import Plane, refusal

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = [
    "",
    "callsheet.v1.TaskService",
    "callsheet.v1.OperationsService",
    "callsheet.v1.AccessService",
]


class Probe:
    """Asks for health, without a key; the stub of grpcio-health-checking has no types."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel

    async def check(self, service: str = "") -> int:
        """Return a service's status."""
        call: aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
        call = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        return (await call(HealthCheckRequest(service=service))).status

    async def list(self) -> dict[str, int]:
        """Return every service's status."""
        call: aio.UnaryUnaryMultiCallable[HealthListRequest, HealthListResponse]
        call = self.channel.unary_unary(
            "/grpc.health.v1.Health/List",
            request_serializer=HealthListRequest.SerializeToString,
            response_deserializer=HealthListResponse.FromString,
        )
        response = await call(HealthListRequest())
        return {name: status.status for name, status in response.statuses.items()}

    async def watch(self, service: str = "") -> AsyncGenerator[int, None]:
        """Yield a service's statuses until the server ends the stream."""
        call: aio.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse]
        call = self.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        async for response in call(HealthCheckRequest(service=service)):
            yield response.status


@pytest.fixture
async def probe(plane: Plane) -> AsyncIterator[Probe]:
    """A probe on a connection of its own."""
    async with aio.insecure_channel(plane.address) as channel:
        yield Probe(channel)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_is_serving_while_the_ledger_answers(
    probe: Probe, service: str
) -> None:
    assert await probe.check(service) == SERVING


async def test_an_unknown_service_is_not_found(probe: Probe) -> None:
    told = await refusal(probe.check("x.Unknown"))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "SERVICE_NOT_FOUND")


async def test_all_services_are_listed(probe: Probe) -> None:
    assert await probe.list() == dict.fromkeys(SERVICES, SERVING)


async def test_a_malformed_probe_is_refused_as_any_call(probe: Probe) -> None:
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = probe.channel.unary_unary(
        "/grpc.health.v1.Health/Check"
    )
    told = await refusal(call(b"\x0a\xff"))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


async def test_a_watch_of_health_tells_each_change(plane: Plane, probe: Probe) -> None:
    async with aclosing(probe.watch()) as statuses:
        assert await anext(statuses) == SERVING
        plane.control.health.set(False)
        assert await anext(statuses) == NOT_SERVING
        plane.control.health.set(True)
        assert await anext(statuses) == SERVING


async def test_a_watch_of_an_unknown_service_says_so(probe: Probe) -> None:
    assert [status async for status in probe.watch("x")] == [SERVICE_UNKNOWN]


async def test_a_server_about_to_end_says_so_and_ends_its_watches(
    plane: Plane, probe: Probe
) -> None:
    async with aclosing(probe.watch()) as statuses:
        assert await anext(statuses) == SERVING
        plane.control.health.shut_down()
        assert [status async for status in statuses] == [NOT_SERVING]
    plane.control.health.set(True)
    assert await probe.check() == NOT_SERVING
