"""Pages of other origins: let in with a key where a setting names them, and never by a cookie."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.gateways import RunningGateway, running_gateway_plane

APP = "https://app.example.com"


@pytest.fixture
async def gateway(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that one other origin may call."""
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, cors_origins=(APP,)
    ) as running:
        yield running


def asking(origin: str) -> dict[str, str]:
    """Return what a browser asks before it sends a key in a header."""
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, x-api-key",
    }


async def preflight(gateway: RunningGateway, origin: str) -> httpx.Response:
    """Ask as a browser does, without a key."""
    async with gateway.client() as browser:
        return await browser.options("/api/v1/tasks/submit", headers=asking(origin))


async def test_an_origin_that_is_named_may_send_a_key(gateway: RunningGateway) -> None:
    answer = await preflight(gateway, APP)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in answer.headers
    body = {"task_type": "ping"}
    answer = await gateway.http.post("/api/v1/tasks/submit", json=body, headers={"origin": APP})
    assert answer.status_code == 202
    assert answer.headers["access-control-allow-origin"] == APP
    # And it may read why it was refused
    answer = await gateway.http.post("/api/v1/tasks/submit", json={}, headers={"origin": APP})
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == APP


async def test_another_origin_reads_nothing(gateway: RunningGateway) -> None:
    other = "https://evil.example"
    answer = await preflight(gateway, other)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    answer = await gateway.http.get("/api/v1/tasks", headers={"origin": other})
    assert "access-control-allow-origin" not in answer.headers
