"""The health API over HTTP: a real gateway, before a real control plane."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.main import running_gateway
from tests.support.controls import running_plane
from tests.support.eventually import eventually
from tests.support.gateways import RunningGateway, gateway_before, gateway_settings

#: What must not be told to whoever asks without a key.
INTERNALS = ("127.0.0.1", "unix:", "valkey", "redis.sock", "cs_", "figures", "/")


@pytest.fixture
async def running(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that tells of health at a port of its own, and looks often."""
    async with running_plane(valkey_server.url, cell) as plane:
        key = await plane.key(projects=frozenset({"default"}), roles=frozenset({"operate"}))
        async with gateway_before(
            plane,
            valkey_server.url,
            cell,
            tmp_path,
            health_address="127.0.0.1:0",
            docs_address="127.0.0.1:0",
            health_key=key,
            health_interval=timedelta(milliseconds=100),
        ) as gateway:
            yield gateway


@pytest.fixture
async def health(running: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the health API, without a key."""
    server = running.gateway.health.server
    assert server is not None
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as client:
        yield client


async def until_ready(running: RunningGateway) -> None:
    async def ready() -> bool:
        return running.gateway.health.watch.is_ready

    await eventually(ready)


async def test_anybody_learns_that_the_gateway_lives_and_is_ready_and_nothing_else(
    running: RunningGateway,
) -> None:
    await until_ready(running)
    async with running.client() as nobody:
        live, ready = await nobody.get("/health"), await nobody.get("/ready")
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert live.headers["cache-control"] == "no-store"


async def test_a_key_learns_how_every_part_is(running: RunningGateway) -> None:
    await until_ready(running)
    plane = (await running.http.get("/health")).json()["plane"]
    assert {"redis", "sessions", "cache", "control", "workers", "sidecar", "storage"} == set(
        plane["components"]
    )
    assert plane["components"]["redis"]["figures"]["used_memory_bytes"] > 0


async def test_a_key_that_is_none_is_refused(running: RunningGateway) -> None:
    await until_ready(running)
    async with running.client("cs_00000000_" + "x" * 43) as stranger:
        refused = await stranger.get("/health")
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"


async def test_the_health_api_tells_states_since_and_reasons_without_internals(
    running: RunningGateway, health: httpx.AsyncClient
) -> None:
    async def looked_at() -> bool:
        components = running.gateway.health.watch.components.values()
        return all(each.seen is not None for each in components)

    await eventually(looked_at)
    answer = await health.get("/")
    assert answer.status_code == 200
    told = answer.json()
    # Nobody works here, which the plane survives
    assert told["status"] == "degraded"
    assert told["components"]["workers"]["reason"] == "no worker runs"
    assert told["components"]["workers"]["parts"]["gpu"]["status"] == "degraded"
    assert told["components"]["sidecar"]["status"] == "down"
    redis = told["components"]["redis"]
    assert redis["status"] == "up"
    assert redis["latency_ms"] > 0
    assert redis["since"].endswith("Z")
    assert [word for word in INTERNALS if word in answer.text] == []


async def test_one_part_is_told_of_by_name(
    running: RunningGateway, health: httpx.AsyncClient
) -> None:
    await until_ready(running)
    control = await health.get("/health/control")
    assert (control.status_code, control.json()["status"]) == (200, "up")

    async def known() -> bool:
        return (await health.get("/health/sidecar")).status_code == 503

    await eventually(known)
    unknown = await health.get("/health/neo4j")
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "COMPONENT_UNKNOWN")


async def test_the_health_api_takes_nothing_but_get(health: httpx.AsyncClient) -> None:
    assert (await health.post("/health")).status_code == 405
    assert (await health.get("/api/v1/tasks")).status_code == 404


async def test_a_control_that_loses_its_ledger_makes_the_gateway_unready_and_says_since_when(
    running: RunningGateway, health: httpx.AsyncClient
) -> None:
    await until_ready(running)
    before = (await health.get("/health/control")).json()["since"]
    # When control says that its ledger is away
    pulse = running.plane.control.pulse
    pulse.on_look.clear()
    running.plane.control.health.set(False)

    async def unready() -> bool:
        return (await running.http.get("/ready")).status_code == 503

    # Then probes are told, and the health API says why and since when
    await eventually(unready)
    answer = await running.http.get("/ready")
    assert answer.json() == {"status": "not_ready"}
    assert answer.headers["retry-after"] == "1"
    told = (await health.get("/health")).json()
    assert told["status"] == "down"
    assert told["components"]["control"]["reason"] == "its ledger does not answer"
    assert told["components"]["control"]["since"] > before
    # And who asks with a key does not wait for a control that cannot know it
    assert (await running.http.get("/health")).json() == {"status": "live"}


async def test_who_asks_waits_for_no_part(cell: str, tmp_path: Path) -> None:
    """Control and Redis listen and never answer: health is told at once all the same."""
    hanging: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(writer)

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    chosen = gateway_settings(f"redis://{address}/0", cell, tmp_path, grpc_address=address)
    async with running_gateway(chosen) as gateway:
        base = f"http://127.0.0.1:{gateway.server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as nobody:
            assert (await nobody.get("/health")).status_code == 200
            assert (await nobody.get("/ready")).status_code == 503
    silent.close()
    for writer in hanging:
        writer.close()
