"""`callsheetd up`, with stand-ins for the rooms: what starts, what is told, how it stops.

The stories with the real rooms are in tests/plane.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from callsheet.ledger.index import Keys
from callsheet.runtime.settings import Settings, variable_of

SECONDS = 100
KEYS = Keys("local").api_keys

PROGRAM = """
import json, os, sys
from datetime import timedelta
from callsheet.embedded.console import Console
from callsheet.embedded.up import run_up
from callsheet.runtime.settings import load_settings_or_exit
rooms = {name: (sys.executable, "-c", text) for name, text in json.loads(sys.argv[1]).items()}
sys.exit(run_up(load_settings_or_exit(), console=Console(as_json=sys.argv[2] == "json"),
    rooms=rooms, ready_timeout=timedelta(seconds=float(sys.argv[3]))))
"""

NOTE = """
import os, signal, socket, sys
def note(*_):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write("NAME ")
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
"""
ROOM = (
    NOTE
    + """
from callsheet.runtime.lifecycle import announce_ready
announce_ready()
signal.pause()
"""
)
CONTROL = (
    NOTE
    + """
host, _, port = os.environ["CALLSHEET_GRPC_ADDRESS"].rpartition(":")
with socket.create_server((host, int(port))):
    signal.pause()
"""
)
DRAINS_LATE = ROOM.replace("signal.signal(signal.SIGTERM, note)", "").replace(
    "signal.pause()",
    """
reading, writing = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(writing, b"x"))
os.read(reading, 1)
open(os.environ["NOTES"] + ".gate").read()
""",
)


def room(text: str, name: str) -> str:
    return text.replace("NAME", name)


ROOMS = {
    "control": room(CONTROL, "control"),
    "upkeep": room(ROOM, "upkeep"),
    "worker": room(ROOM, "worker"),
    "sidecar": room(ROOM, "sidecar"),
}


class Folder:
    """A state folder, and how to run `up` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes = path.parent / "notes"
        settings = {variable_of(name) for name in Settings.model_fields}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in settings},
            "CALLSHEET_STATE_DIR": str(path),
            "CALLSHEET_GRPC_ADDRESS": "127.0.0.1:0",
            "CALLSHEET_BRAIN_ADDRESS": "127.0.0.1:0",
            "NOTES": str(self.notes),
        }

    def start(
        self,
        *,
        rooms: dict[str, str] = ROOMS,
        output: str = "json",
        ready_timeout: float = 60,
        **variables: str,
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(rooms), output, str(ready_timeout)],
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **changes: object) -> "subprocess.CompletedProcess[str]":
        """Run an `up` that ends by itself."""
        running = self.start(**changes)  # pyright: ignore[reportArgumentType]  # each test names the right types
        out, err = running.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(running.args, running.returncode, out, err)

    @contextmanager
    def up(self, **changes: object) -> Generator["Running", None, None]:
        """An `up` that is ready; what is left of it is killed at the end."""
        process = self.start(**changes)  # pyright: ignore[reportArgumentType]  # each test names the right types
        try:
            yield Running(process)
        finally:
            process.kill()
            process.communicate(timeout=SECONDS)


class Running:
    """An `up` that has said it is ready."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        self.ready = cast("dict[str, object]", json.loads(line))

    @property
    def processes(self) -> dict[str, int]:
        return cast("dict[str, int]", self.ready["processes"])

    def redis(self) -> Redis:
        url = str(self.ready["redis_url"])
        return Redis(unix_socket_path=url.removeprefix("unix://").partition("?")[0])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Stop it; return what it wrote to stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, err
        return err


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "state")


def test_up_says_where_everything_is(folder: Folder) -> None:
    with folder.up() as up:
        ready = up.ready
        assert ready["event"] == "ready"
        assert ready["state_dir"] == str(folder.path)
        assert ready["pid"] == up.process.pid
        assert (ready["project"], ready["projects"]) == ("default", ["default", "test_project"])
        assert ready["late"] == []
        assert list(up.processes) == ["valkey", "control", "upkeep", "worker", "sidecar"]
        host, _, port = str(ready["grpc_address"]).rpartition(":")
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
        with up.redis() as redis:
            assert redis.exists("nothing") == 0
        up.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_stops_in_order_and_nothing_goes_on(folder: Folder, number: signal.Signals) -> None:
    with folder.up() as up:
        processes = [os.pidfd_open(process) for process in up.processes.values()]
        up.stop(number)
        for process in processes:
            with pytest.raises(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
            os.close(process)
    assert folder.notes.read_text().split() == ["worker", "sidecar", "upkeep", "control"]


def test_a_second_start_finds_everything(folder: Folder) -> None:
    with folder.up() as up, up.redis() as redis:
        key = up.ready["key"]
        redis.set("written", "before")
        up.stop()
    with folder.up() as up, up.redis() as redis:
        assert up.ready["key"] == key
        assert redis.get("written") == b"before"
        up.stop()


def test_an_emptied_redis_gets_the_same_development_key_again(folder: Folder) -> None:
    with folder.up() as up, up.redis() as redis:
        key = str(up.ready["key"])
        kept = folder.path / "development.key"
        assert kept.read_text().strip() == key
        assert kept.stat().st_mode & 0o077 == 0
        assert redis.hexists(KEYS, key.split("_")[1])
        redis.delete(KEYS)
        up.stop()
    with folder.up() as up, up.redis() as redis:
        assert up.ready["key"] == key
        assert redis.hexists(KEYS, key.split("_")[1])
        up.stop()


def test_a_second_up_in_the_folder_is_refused_in_one_line(folder: Folder) -> None:
    with folder.up() as up:
        second = folder.run()
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == (
            f"callsheetd: callsheetd up runs in {folder.path} already, "
            f"as process {up.process.pid}\n"
        )
        up.stop()


def test_an_up_after_a_killed_one_waits_for_its_processes_to_end(folder: Folder) -> None:
    # Given an up that was killed while a child of its takes its time
    gate = Path(f"{folder.notes}.gate")
    os.mkfifo(gate)
    with folder.up(rooms={**ROOMS, "worker": DRAINS_LATE}) as up:
        worker = os.pidfd_open(up.processes["worker"])
        up.process.kill()
        up.process.wait(SECONDS)
    # When another one starts, then it waits for that child, and goes on when it has ended
    starting = folder.start()
    try:
        assert starting.stderr is not None
        assert starting.stderr.readline() == "waiting for an earlier start to end\n"
        assert select.select([worker], [], [], 0)[0] == []
        gate.write_text("go on")
        after = Running(starting)
        assert select.select([worker], [], [], SECONDS)[0] == [worker]
        after.stop()
    finally:
        os.close(worker)
        starting.kill()
        starting.communicate(timeout=SECONDS)


def test_a_room_that_was_killed_is_started_again(folder: Folder) -> None:
    with folder.up() as up:
        os.kill(up.processes["worker"], signal.SIGKILL)
        assert up.process.stderr is not None
        told = [up.process.stderr.readline() for _ in range(2)]
        up.stop()
    assert told[1].startswith("callsheetd: worker ended (signal 9), starts again in 0.")


def test_a_valkey_that_was_killed_is_started_again_with_everything(folder: Folder) -> None:
    with folder.up() as up, up.redis() as redis:
        redis.set("written", "before")
        os.kill(up.processes["valkey"], signal.SIGKILL)
        events = (
            cast("dict[str, object]", json.loads(line))
            for line in follow(folder.path / "logs" / "up.log", up)
        )
        first = up.processes["valkey"]
        for event in events:
            of_valkey = event["event"] == "process_became_ready" and event["child"] == "valkey"
            if of_valkey and event["pid"] != first:
                break
        with up.redis() as again:
            assert again.get("written") == b"before"
        up.stop()


def test_a_room_that_does_not_start_ends_the_up_with_its_reason(folder: Folder) -> None:
    failing = "import sys; sys.exit('no such device')"
    ended = folder.run(rooms={**ROOMS, "worker": failing})
    assert (ended.returncode, ended.stdout) == (1, "")
    last = ended.stderr.splitlines()[-1]
    log = folder.path / "logs" / "worker.log"
    assert f"callsheetd: worker does not start: no such device; see {log}" in ended.stderr
    assert last == "stopping"


def test_a_control_that_never_listens_ends_the_up(folder: Folder) -> None:
    ended = folder.run(
        rooms={**ROOMS, "control": "import signal; signal.pause()"}, ready_timeout=0.5
    )
    assert ended.returncode == 1
    assert "callsheetd: control does not start: it wrote nothing" in ended.stderr


def test_a_room_that_never_says_it_is_ready_is_named(folder: Folder) -> None:
    with folder.up(
        rooms={**ROOMS, "sidecar": "import signal; signal.pause()"}, ready_timeout=5
    ) as up:
        assert "sidecar" in cast("list[str]", up.ready["late"])
        up.stop()


def test_a_port_that_is_taken_is_refused_before_anything_starts(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = folder.run(CALLSHEET_GRPC_ADDRESS=address)
    assert ended.returncode == 1
    assert f"callsheetd: nothing can listen on {address}: Address already in use" in ended.stderr
    assert not (folder.path / "valkey").exists()


def test_a_given_redis_is_used_and_none_is_started(folder: Folder, tmp_path: Path) -> None:
    with Folder(tmp_path / "other").up() as other:
        url = str(other.ready["redis_url"])
        with folder.up(REDIS_URL=url) as up:
            assert up.ready["redis_url"] == url
            assert "valkey" not in up.processes
            up.stop()
        assert not (folder.path / "valkey").exists()
        other.stop()


def test_a_redis_that_does_not_answer_ends_the_up(folder: Folder, tmp_path: Path) -> None:
    ended = folder.run(REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert ended.returncode == 1
    assert f"callsheetd: unix://{tmp_path}/none.sock does not answer" in ended.stderr


def test_outside_development_no_key_is_made(folder: Folder) -> None:
    with folder.up(CALLSHEET_ENVIRONMENT="production") as up:
        assert (up.ready["key"], up.ready["project"]) == (None, None)
        assert not (folder.path / "development.key").exists()
        up.stop()


def test_for_people_the_last_line_is_ready(folder: Folder) -> None:
    process = folder.start(output="text")
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "ready":
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            lines.append(line.strip())
        text = "\n".join(lines)
        key = (folder.path / "development.key").read_text().strip()
        for shown in ("127.0.0.1:", "valkey.sock", key, "default, test_project"):
            assert shown in text
        process.terminate()
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out, err) == (0, "stopping\n", "")
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def follow(log: Path, up: Running) -> Generator[str, None, None]:
    """Yield the lines of a log as they are written, for as long as *up* runs."""
    with log.open() as lines:
        while up.process.poll() is None:
            if line := lines.readline():
                yield line
