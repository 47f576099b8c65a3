"""The gateway as a process: ready, told to stop, refused, and with ten thousand idle visitors."""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED
from tests.support.controls import running_plane
from tests.support.planes import free_address
from tests.support.processes import Room, room

IDLE = 10_000
PATIENCE = 60.0


@pytest.fixture
def environment(valkey_server: EmbeddedValkey, cell: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a gateway process; there is no control plane at its address."""
    return {
        "REDIS_URL": valkey_server.url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_STATE_DIR": str(tmp_path),
        "CALLSHEET_GATEWAY_ADDRESS": free_address(),
        "CALLSHEET_GRPC_ADDRESS": free_address(),
        "CALLSHEET_HEALTH_ADDRESS": "none",
        "CALLSHEET_DOCS_ADDRESS": "none",
    }


def connected(environment: Mapping[str, str], key: str = "") -> httpx.AsyncClient:
    """Return a client of the process."""
    address = environment["CALLSHEET_GATEWAY_ADDRESS"]
    headers = {"x-api-key": key} if key else {}
    return httpx.AsyncClient(
        base_url=f"http://{address}", headers=headers, timeout=PATIENCE, trust_env=False
    )


async def test_without_control_it_runs_and_says_that_it_is_away(
    environment: dict[str, str],
) -> None:
    with room("gateway", environment):
        async with connected(environment, "cs_00000000_key") as http:
            assert (await http.get("/health")).status_code == 200
            answer = await http.get("/api/v1/tasks")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1


async def test_ten_thousand_idle_connections_leave_room_for_a_request(
    environment: dict[str, str], valkey_server: EmbeddedValkey, cell: str
) -> None:
    async with running_plane(valkey_server.url, cell) as plane:
        environment["CALLSHEET_GRPC_ADDRESS"] = plane.address
        with room("gateway", environment), ExitStack() as idle:
            host, _, port = environment["CALLSHEET_GATEWAY_ADDRESS"].rpartition(":")
            for _ in range(IDLE):
                idle.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            async with connected(environment, plane.client.key) as http:
                answer = await http.post("/api/v1/tasks/submit", json={"task_type": "ping"})
                assert answer.status_code == 202


async def test_on_sigterm_streams_end_and_the_process_with_them(
    environment: dict[str, str], valkey_server: EmbeddedValkey, cell: str
) -> None:
    async with running_plane(valkey_server.url, cell) as plane:
        environment["CALLSHEET_GRPC_ADDRESS"] = plane.address
        with room("gateway", environment) as process:
            async with connected(environment, plane.client.key) as http:
                answer = await http.post("/api/v1/tasks/submit", json={"task_type": "ping"})
                path = f"/api/v1/tasks/{answer.json()['task_id']}/events"
                async with http.stream("GET", path) as stream:
                    lines = stream.aiter_lines()
                    assert await anext(lines) == "retry: 1000"
                    process.process.terminate()
                    assert [line async for line in lines]
            assert await asyncio.to_thread(process.process.wait, PATIENCE) == 0


def test_a_taken_address_ends_the_process_with_a_reason(
    environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment["CALLSHEET_GATEWAY_ADDRESS"] = f"127.0.0.1:{taken.getsockname()[1]}"
        assert Room("gateway", environment).process.wait(PATIENCE) == 1
    said = capfd.readouterr().err
    assert "cannot listen at" in said
    assert "Traceback" not in said


def test_bad_settings_end_the_process_at_once(
    environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    environment["CALLSHEET_CORS_ORIGINS"] = "everywhere"
    assert Room("gateway", environment).process.wait(PATIENCE) == EXIT_SETTINGS_REFUSED
    assert "CALLSHEET_CORS_ORIGINS" in capfd.readouterr().err
