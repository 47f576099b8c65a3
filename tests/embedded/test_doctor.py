"""`callsheetd doctor`: how every part is, and what mends it."""

import json
import socket
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from callsheet.embedded import doctor
from callsheet.embedded.addresses_file import ADDRESSES_FILE, note_addresses
from callsheet.embedded.doctor import (
    EXIT_SOMETHING_DOWN,
    EXIT_WELL,
    as_found_here,
    examine,
    run_doctor,
)
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.runtime.checks.finding import Finding, HealthState
from callsheet.runtime.settings import Settings
from callsheet.sidecar.tailer import READER, ROLE
from callsheet.v1.operations_service_pb2 import Worker, WorkerSlots
from tests.embedded.test_callsheetd import Command
from tests.support.controls import Plane
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.receiver import Receiver, Reply


@pytest.fixture
async def gateway(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that tells of health, before a control plane with a worker and a sidecar."""
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, health_address="127.0.0.1:0"
    ) as running:
        await staffed(running.plane)
        yield running


async def staffed(plane: Plane) -> None:
    """Let the plane have a worker of all queues, and a sidecar."""
    slots = [WorkerSlots(resource_class="worker", total=8), WorkerSlots(resource_class="device")]
    worker = Worker(id="w-1", host="h", pid=7, queues=["gpu", "system"], slots=slots)
    record = WorkerRecord(version=1, worker=worker)
    await plane.cell.registry.heartbeat("w-1", record.SerializeToString())
    await plane.cell.registry.hold(ROLE, "sidecar-1", duration=timedelta(minutes=10))
    await plane.cell.log.save_cursor(READER, await plane.cell.log.end())


def settings_of(running: RunningGateway, **changes: object) -> Settings:
    """The settings of somebody who looks at the plane from its own machine."""
    health = running.gateway.health.server
    assert health is not None
    addresses = {
        "gateway_address": running.host,
        "health_address": f"127.0.0.1:{health.port}",
        "health_key": SecretStr(running.key),
    }
    return running.settings.model_copy(update={**addresses, **changes})


async def test_a_plane_that_works_is_up_in_all_its_parts(running: RunningGateway) -> None:
    found = await examine(settings_of(running))
    by_name = {each.name: each for each in found}
    assert list(by_name) == [
        *("machine", "redis", "sessions", "cache", "control", "workers", "sidecar", "storage"),
        "gateway",
    ]
    unwell = {name: each.finding for name, each in by_name.items() if each.finding.mend}
    assert unwell == {}
    assert set(by_name["workers"].finding.parts) >= {"gpu", "system"}
    # Since when, the gateway knows
    assert by_name["control"].since is not None


@pytest.fixture
def running(gateway: RunningGateway) -> RunningGateway:
    return gateway


async def test_every_part_that_is_not_up_says_how_it_is_mended(
    running: RunningGateway, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and never listening
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        away = settings_of(
            running,
            redis_url=f"unix://{tmp_path}/none.sock",
            grpc_address=address,
            gateway_address=address,
            payload_api_url=f"http://{address}/api",
            brain_ws_url=f"ws://{address}/mcp",
            artifacts_url=(tmp_path / "file").as_uri(),
        )
        (tmp_path / "file").write_text("in the way")
        found = {each.name: each.finding for each in await examine(away)}
    down = {name for name, each in found.items() if each.state is HealthState.DOWN}
    assert down == set(found) - {"machine", "workers", "sidecar"}
    assert [name for name in down if not found[name].mend] == []
    assert found["workers"].reason == "control does not tell"


async def test_another_program_at_the_gateways_address_is_no_gateway(
    running: RunningGateway,
) -> None:
    async with Receiver(Reply(status=404)) as other:
        found = await examine(settings_of(running, gateway_address=f"127.0.0.1:{other.port}"))
    gateway = next(each.finding for each in found if each.name == "gateway")
    assert (gateway.state, gateway.reason) == (
        HealthState.DOWN,
        "what answers there is no gateway",
    )


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """The settings of a machine on which no plane runs, nor ever ran."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = ("grpc_address", "gateway_address", "health_address", "brain_address")
    return Settings(state_dir=tmp_path / "state", **dict.fromkeys(names, address))


def test_the_command_says_how_to_start_a_plane_and_makes_nothing(
    nowhere: Settings, tmp_path: Path
) -> None:
    callsheetd = Command(tmp_path / "state")
    for name in ("GRPC", "GATEWAY", "HEALTH", "BRAIN"):
        callsheetd.environment[f"CALLSHEET_{name}_ADDRESS"] = nowhere.grpc_address
    ended = callsheetd("doctor", "--json")
    assert (ended.returncode, ended.stderr) == (EXIT_SOMETHING_DOWN, "")
    told = json.loads(ended.stdout)
    assert told["status"] == "down"
    redis = told["components"]["redis"]
    assert (redis["status"], redis["reason"]) == ("down", "no plane runs in the state folder")
    assert "callsheetd up" in redis["mend"]
    assert told["components"]["machine"]["status"] in {"up", "degraded"}
    assert not (tmp_path / "state").exists()


def test_people_get_a_line_for_each_part_and_below_it_what_mends_it(
    nowhere: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_doctor(nowhere, as_json=False) == EXIT_SOMETHING_DOWN
    lines = capsys.readouterr().out.splitlines()
    control = next(
        number for number, line in enumerate(lines) if line.startswith("down      contro")
    )
    assert "it does not answer" in lines[control]
    assert lines[control + 1].strip().startswith("-> start it with `callsheetd up`")
    assert lines[-1] == "Something is down."


async def test_a_secret_that_others_may_read_is_told_of(nowhere: Settings) -> None:
    kept = nowhere.state_dir / "development.key"
    kept.parent.mkdir()
    kept.write_text("cs_00000000_" + "x" * 43)
    kept.chmod(0o644)
    found = {each.name: each.finding for each in await examine(nowhere)}
    assert "chmod 600" in found["secrets"].mend
    assert "x" * 43 not in repr(found)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644


def test_what_an_up_left_is_looked_at_unless_something_else_is_named(tmp_path: Path) -> None:
    left = {
        "grpc_address": "127.0.0.1:1",
        "gateway_address": "127.0.0.1:2",
        "brain_ws_url": "ws://127.0.0.1:3/mcp",
        "artifacts_url": "file:///elsewhere",
    }
    note_addresses(tmp_path, left)
    (tmp_path / "brain.token").touch(mode=0o600)
    (tmp_path / "brain.token").write_text("t" * 40)
    here, _ = as_found_here(Settings(state_dir=tmp_path, gateway_address="127.0.0.1:9"))
    assert here.grpc_address == "127.0.0.1:1"
    assert here.gateway_address == "127.0.0.1:9"
    assert here.brain_ws_url == "ws://127.0.0.1:3/mcp"
    assert here.brain_token == SecretStr("t" * 40)
    assert here.artifacts_url != "file:///elsewhere"


def test_the_kept_token_goes_to_no_brain_but_the_embedded_one(tmp_path: Path) -> None:
    note_addresses(tmp_path, {"brain_ws_url": "ws://127.0.0.1:3/mcp"})
    (tmp_path / "brain.token").touch(mode=0o600)
    (tmp_path / "brain.token").write_text("t" * 40)
    named = Settings(state_dir=tmp_path, brain_ws_url="wss://brain.example.com/mcp")
    assert as_found_here(named)[0].brain_token is None


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"grpc_address": 7}'])
def test_what_an_up_left_and_nobody_can_read_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESSES_FILE).write_text(text)
    assert as_found_here(Settings(state_dir=tmp_path))[0].grpc_address == "127.0.0.1:50051"


async def test_no_password_and_no_key_is_printed(
    running: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await examine(settings_of(running, cache_redis_url="redis://me:hunter2@127.0.0.1:9/0"))
    assert {each.name: each.finding.state for each in found}["cache"] is HealthState.DOWN
    assert "hunter2" not in repr(found)
    assert running.key not in repr(found)


def test_the_exit_code_counts_what_is_down_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = HealthState.DEGRADED

    async def found(_: Settings) -> list[doctor.Examined]:
        return [
            doctor.Examined("brain", Finding(state=state)),
            doctor.Examined("sidecar", Finding(state=HealthState.UNKNOWN)),
        ]

    monkeypatch.setattr(doctor, "examine", found)
    assert run_doctor(Settings(), as_json=False) == EXIT_WELL
    assert capsys.readouterr().out.splitlines()[-1] == "It works, less well than it should."
    state = HealthState.UP
    assert run_doctor(Settings(), as_json=False) == EXIT_WELL
    assert capsys.readouterr().out.splitlines()[-1] == "Everything that could be looked at is up."
    state = HealthState.DOWN
    assert run_doctor(Settings(), as_json=True) == EXIT_SOMETHING_DOWN
