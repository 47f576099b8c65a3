"""`callsheetd up` and its gateway: where it listens, what it is told, when it ends."""

import json
import socket
from pathlib import Path
from typing import Final, cast

import pytest
from pydantic import SecretStr

from callsheet.embedded.addresses_file import noted_addresses
from callsheet.embedded.console import Console, Readiness
from callsheet.embedded.endpoints import AddressTaken
from callsheet.embedded.gateway_room import (
    GatewayAddresses,
    gateway_addresses,
    gateway_environment,
)
from callsheet.runtime.settings import Settings
from tests.embedded.test_up import ROOM, ROOMS, Folder, room
from tests.support.any_ports import ANY_PORTS

TELLS: Final = (
    """
import json, os
told = {name: value for name, value in os.environ.items() if name.startswith("CALLSHEET_")}
open(os.environ["NOTES"] + ".NAME", "w").write(json.dumps(told))
"""
    + ROOM
)
WITH_GATEWAY: Final = {
    "control": ROOMS["control"],
    "gateway": room(TELLS, "gateway"),
    "upkeep": ROOMS["upkeep"],
    "worker": room(TELLS, "worker"),
    "sidecar": ROOMS["sidecar"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "state")
    made.environment |= ANY_PORTS
    return made


def told(folder: Folder, name: str) -> dict[str, str]:
    return cast("dict[str, str]", json.loads(Path(f"{folder.notes}.{name}").read_text()))


def test_the_gateway_is_told_where_to_listen_and_gets_the_key_to_look_with(folder: Folder) -> None:
    with folder.up(rooms=WITH_GATEWAY) as up:
        environment = told(folder, "gateway")
        for name in ("gateway", "health", "docs"):
            address = environment[f"CALLSHEET_{name.upper()}_ADDRESS"]
            assert address == up.ready[f"{name}_address"]
            assert not address.endswith(":0")
        assert environment["CALLSHEET_HEALTH_KEY"] == up.ready["key"]
        # Whoever looks at the plane in its folder finds the same
        noted = noted_addresses(folder.path)
        assert noted == {name: up.ready[name] for name in noted}
        assert set(noted) >= {"grpc_address", "gateway_address", "health_address"}
        # No other process needs a key.
        assert "CALLSHEET_HEALTH_KEY" not in told(folder, "worker")
        up.stop()
    assert noted_addresses(folder.path) == {}
    # It tells until the end of the others, and ends before control.
    order = folder.notes.read_text().split()
    assert order == ["worker", "sidecar", "upkeep", "gateway", "control"]


def test_a_key_that_was_given_is_the_one_to_look_with() -> None:
    addresses = GatewayAddresses(gateway="127.0.0.1:1")
    settings = Settings(health_key=SecretStr("cs_given"))
    environment = gateway_environment(settings, addresses, key="cs_development")
    # The process has the given one from the environment that it inherits.
    assert environment == {
        "CALLSHEET_GATEWAY_ADDRESS": "127.0.0.1:1",
        "CALLSHEET_HEALTH_ADDRESS": "none",
        "CALLSHEET_DOCS_ADDRESS": "none",
    }


def test_a_port_of_the_gateway_that_is_taken_is_refused_before_anything_starts(
    folder: Folder,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        folder.environment["CALLSHEET_GATEWAY_ADDRESS"] = address
        ended = folder.run(rooms=WITH_GATEWAY)
    assert ended.returncode == 1
    assert f"callsheetd: nothing can listen on {address}: Address already in use" in ended.stderr
    assert not (folder.path / "valkey").exists()


@pytest.mark.parametrize("name", ["gateway_address", "health_address", "docs_address"])
def test_each_of_its_ports_must_be_free(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = dict.fromkeys(("gateway_address", "health_address", "docs_address"), "127.0.0.1:0")
        settings = Settings(**{**free, name: f"127.0.0.1:{taken.getsockname()[1]}"})  # pyright: ignore[reportArgumentType]  # checked at run time
        with pytest.raises(AddressTaken):
            gateway_addresses(settings)


def test_what_a_person_opens_is_a_url_of_this_machine() -> None:
    addresses = GatewayAddresses(gateway="0.0.0.0:8001", health="[::]:8100")
    assert addresses.urls == {
        "dashboard": "http://127.0.0.1:8001",
        "health": "http://[::1]:8100",
    }


def test_people_are_told_what_to_open(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    addresses = GatewayAddresses(gateway="127.0.0.1:8001", docs="127.0.0.1:8300")
    readiness = Readiness(
        grpc_address="127.0.0.1:50051",
        redis_url="redis://h",
        key=None,
        projects=(),
        state_dir=tmp_path,
        artifacts_url=tmp_path.as_uri(),
        brain_ws_url=None,
        addresses=addresses,
        pid=1,
        processes={},
        late=(),
    )
    Console(as_json=False).announce(readiness)
    shown = capsys.readouterr().out
    assert "  dashboard  http://127.0.0.1:8001\n" in shown
    assert "  docs       http://127.0.0.1:8300\n" in shown
    assert "health" not in shown
