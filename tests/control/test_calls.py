"""What surrounds every call: its time limit, and what a defect tells."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthListRequest
from redis.asyncio import Redis

from callsheet.control.authentication import Authentication
from callsheet.control.calls import Call, Calls, ServicePlan
from callsheet.control.server import Server
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.index import Keys
from callsheet.ledger.redis_connection import RedisConnection
from tests.support.controls import refusal

_DESCRIPTOR = cast("ServiceDescriptor", health_pb2.DESCRIPTOR.services_by_name["Health"])
_CHECK = "/grpc.health.v1.Health/Check"
_WATCH = "/grpc.health.v1.Health/Watch"


class Troubled:
    """A service in which everything goes wrong."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def Check(self, request: HealthCheckRequest, call: Call) -> None:  # noqa: N802  # named by its contract
        """Take for ever."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def List(self, request: HealthListRequest, call: Call) -> None:  # noqa: N802  # named by its contract
        """Fail."""
        raise RuntimeError("the password is hunter2")

    async def Watch(  # noqa: N802  # named by its contract
        self, request: HealthCheckRequest, call: Call
    ) -> AsyncGenerator[bytes, None]:
        """Fail after the first response."""
        yield b"\x08\x01"
        raise RuntimeError("the password is hunter2")


@asynccontextmanager
async def _served(
    redis: Redis, servicer: Troubled, *, limit: timedelta
) -> AsyncGenerator[aio.Channel]:
    calls = Calls(Authentication(Credentials(RedisConnection(redis), Keys("unused"))))
    plan = ServicePlan(
        descriptor=_DESCRIPTOR, servicer=servicer, limits={"Check": limit}, public=True
    )
    server = Server("127.0.0.1:0", [calls.handler(plan)])
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop(grace=timedelta(0))


async def _unary(channel: aio.Channel, method: str, *, timeout: float | None = None) -> bytes:
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await call(b"", timeout=timeout)


async def test_a_call_without_a_deadline_ends_at_the_server_s_limit(redis: Redis) -> None:
    troubled = Troubled()
    async with _served(redis, troubled, limit=timedelta(milliseconds=50)) as channel:
        for timeout in (None, 1e9):
            told = await refusal(_unary(channel, _CHECK, timeout=timeout))
            assert (told.code, told.reason) == (
                StatusCode.DEADLINE_EXCEEDED,
                "DEADLINE_EXCEEDED",
            )
            assert told.metadata == {"seconds": "0.05"}
        assert troubled.cancelled.is_set()


async def test_a_call_whose_own_deadline_has_passed_is_worked_on_no_more(redis: Redis) -> None:
    troubled = Troubled()
    async with _served(redis, troubled, limit=timedelta(minutes=1)) as channel:
        told = await refusal(_unary(channel, _CHECK, timeout=0.05))
        assert told.code is StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(troubled.cancelled.wait(), 30)


@pytest.mark.parametrize("method", ["List", "Watch"])
async def test_a_defect_is_told_by_its_reference_and_logged_in_full(
    redis: Redis, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with _served(redis, Troubled(), limit=timedelta(minutes=1)) as channel:
        if method == "List":
            told = await refusal(_unary(channel, "/grpc.health.v1.Health/List"))
        else:
            told = await refusal(_read_to_the_end(channel))
    assert (told.code, told.reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert re.fullmatch(r"[0-9a-f]{16}", told.metadata["reference"])
    assert "hunter2" not in told.message
    logged = "".join(capfd.readouterr())
    assert told.metadata["reference"] in logged
    assert "hunter2" in logged


async def _read_to_the_end(channel: aio.Channel) -> None:
    call: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_WATCH)
    async for _ in call(b""):
        pass


async def test_a_service_whose_methods_are_not_all_served_cannot_be_made(redis: Redis) -> None:
    calls = Calls(Authentication(Credentials(RedisConnection(redis), Keys("unused"))))
    with pytest.raises(AttributeError, match="Check"):
        calls.handler(ServicePlan(descriptor=_DESCRIPTOR, servicer=object()))
