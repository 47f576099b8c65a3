"""What the README shows is true."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from callsheet.client.cli.parser import build_parser
from callsheet.ledger.model import FINAL, NEXT_STATES, TaskState
from callsheet.runtime.catalogue_file import load_catalogue
from tests.support.any_ports import ANY_PORTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DIAGRAM = re.search(r"```mermaid\n(.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_diagram_is_the_state_machine() -> None:
    assert DIAGRAM is not None
    drawn = set(re.findall(r"^\s+(\S+) --> (\S+)$", DIAGRAM[1], re.MULTILINE))
    steps = {
        (state.value, after.value)
        for state, following in NEXT_STATES.items()
        for after in following
    }
    ends = {(state.value, "[*]") for state in FINAL}
    assert drawn == steps | ends | {("[*]", TaskState.PENDING.value)}


@pytest.mark.parametrize(
    "command", re.findall(r"^callsheet (.*)$", "\n".join(blocks("sh")), re.MULTILINE)
)
def test_every_command_of_the_client_is_one(command: str) -> None:
    assert build_parser().parse_args(shlex.split(command))


def test_the_model_catalogue_is_one(tmp_path: Path) -> None:
    whole, shapes = blocks("toml")
    file = tmp_path / "models.toml"
    file.write_text(whole)
    assert load_catalogue(file).find("").name == "sdxl"
    # The other one says more of one of its models
    table, _, more = shapes.partition("\n")
    assert table in whole
    file.write_text(whole.replace(table, f"{table}\n{more}"))
    assert len(load_catalogue(file).find("sdxl").compile_shapes) == 3


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_example_runs_on_a_plane_that_was_brought_up(tmp_path: Path, cache_dir: Path) -> None:
    """As a newcomer: `up` in an empty folder, then the example as it stands."""
    (example,) = blocks("python")
    # Given a plane in a folder of its own, on a port of its own
    environment = {
        **os.environ,
        "CALLSHEET_STATE_DIR": str(tmp_path / ".callsheet"),
        "CALLSHEET_CACHE_DIR": str(cache_dir),
        **ANY_PORTS,
        "CALLSHEET_DEVICE": "cpu",
    }
    command = [sys.executable, "-m", "callsheet.embedded.main", "up", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as up:
        assert up.stdout is not None
        try:
            address = re.search(r'"grpc_address": "([^"]+)"', up.stdout.readline())
            assert address is not None
            # When the example runs there, at the plane's own port
            done = subprocess.run(
                [sys.executable, "-c", example.replace("127.0.0.1:50051", address[1])],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=110,
            )
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0
    # Then it shows the facts and the image
    lines = done.stdout.splitlines()
    assert lines[0] == "1 task_submitted", done.stderr
    assert "3 task_succeeded" in lines
    uri, sha256 = lines[-1].split()
    assert uri.endswith(".png")
    assert len(sha256) == 64
