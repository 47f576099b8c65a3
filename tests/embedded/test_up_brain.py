"""`callsheetd up` and the embedded brain: what its children are told, and how long it lives.

Stand-ins take the places of the other rooms; where it matters, the brain is the real one.
"""

import json
import os
import signal
from pathlib import Path
from typing import Final, cast

import pytest

from callsheet.brain.brain import Brain
from tests.embedded.test_up import ROOM, ROOMS, Folder, Running, follow, room
from tests.support import embedded_brains
from tests.support.brains import connected
from tests.support.embedded_brains import story

TELLS: Final = (
    """
import json, os
told = {name: os.environ.get(name) for name in json.loads('["BRAIN_WS_URL", "BRAIN_HTTP_URL", '
    '"CALLSHEET_BRAIN_TOKEN", "CALLSHEET_BRAIN_ADDRESS"]')}
open(os.environ["NOTES"] + ".NAME", "w").write(json.dumps(told))
"""
    + ROOM
)
REAL: Final = "import runpy; runpy.run_module('callsheet.embedded.brain', run_name='__main__')"
READY: Final = ("process_became_ready", "brain")
WITH_BRAIN: Final = {**ROOMS, "brain": room(TELLS, "brain"), "sidecar": room(TELLS, "sidecar")}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "state")


def told(folder: Folder, name: str) -> dict[str, str | None]:
    text = Path(f"{folder.notes}.{name}").read_text()
    return cast("dict[str, str | None]", json.loads(text))


def client(up: Running, folder: Folder) -> Brain:
    token = (folder.path / "brain.token").read_text().strip()
    return embedded_brains.client(str(up.ready["brain_ws_url"]), token=token)


def test_every_child_is_told_where_the_brain_is_and_its_token(folder: Folder) -> None:
    with folder.up(rooms=WITH_BRAIN) as up:
        kept = folder.path / "brain.token"
        environment = told(folder, "sidecar")
        assert environment == told(folder, "brain")
        assert environment["CALLSHEET_BRAIN_TOKEN"] == kept.read_text().strip()
        assert kept.stat().st_mode & 0o077 == 0
        address = environment["CALLSHEET_BRAIN_ADDRESS"]
        assert environment["BRAIN_WS_URL"] == up.ready["brain_ws_url"] == f"ws://{address}/mcp"
        assert environment["BRAIN_HTTP_URL"] == f"http://{address}"
        up.stop()
    # The brain ends after those who tell it things.
    order = folder.notes.read_text().split()
    assert order == ["worker", "sidecar", "brain", "upkeep", "control"]


def test_no_brain_is_started_where_another_one_is_named(folder: Folder) -> None:
    with folder.up(rooms=WITH_BRAIN, BRAIN_WS_URL="wss://brain.example/mcp") as up:
        assert "brain" not in up.processes
        assert up.ready["brain_ws_url"] == "wss://brain.example/mcp"
        assert told(folder, "sidecar")["BRAIN_WS_URL"] == "wss://brain.example/mcp"
        assert not (folder.path / "brain.token").exists()
        up.stop()


def test_a_token_that_others_may_read_is_refused(folder: Folder) -> None:
    folder.path.mkdir()
    kept = folder.path / "brain.token"
    kept.write_text("x" * 40)
    kept.chmod(0o644)
    ended = folder.run(rooms=WITH_BRAIN)
    assert ended.returncode == 1
    assert f"callsheetd: {kept} is open to other users: chmod 600 it" in ended.stderr


async def test_a_brain_that_was_killed_is_started_again_and_remembers(folder: Folder) -> None:
    with folder.up(rooms={**ROOMS, "brain": REAL}) as up:
        async with client(up, folder) as brain:
            await connected(brain)
            assert (await brain.store_task_events(story("t"))).written == 5
        os.kill(up.processes["brain"], signal.SIGKILL)
        for line in follow(folder.path / "logs" / "up.log", up):
            event = json.loads(line)
            another = event.get("pid") != up.processes["brain"]
            if (event["event"], event.get("child")) == READY and another:
                break
        async with client(up, folder) as brain:
            await connected(brain)
            (task,) = await brain.get_task_history("default")
            assert task.task_id == "t"
        up.stop()
