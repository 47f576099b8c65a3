"""The embedded Valkey: what it acknowledged is there, whoever is killed."""

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from callsheet.embedded.engine import STAMP, EngineUnfit, find_engine
from callsheet.embedded.valkey import LOG_FILE, EmbeddedValkey, ValkeyUnavailable

AT_ONCE = timedelta(milliseconds=1)

OWNER = """
import sys
from pathlib import Path
from redis import Redis
from callsheet.embedded.valkey import EmbeddedValkey

server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
redis = Redis.from_url(server.url)
count = 0
while True:
    count += 1
    redis.set(f"key-{count}", count)
    if count % 100 == 0:
        print(count, flush=True)
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A running server whose folder is `tmp_path / "v"`."""
    with EmbeddedValkey(tmp_path / "v") as server:
        yield server


def send(server: EmbeddedValkey, *commands: tuple[str, ...]) -> list[object]:
    """Send commands over one connection; return their replies."""
    path = server.url.removeprefix("unix://").partition("?")[0]
    with Redis(unix_socket_path=path) as redis:
        return [
            redis.execute_command(*words)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
            for words in commands
        ]


def size(server: EmbeddedValkey) -> int:
    return cast("int", send(server, ("DBSIZE",))[0])


def write(server: EmbeddedValkey, count: int) -> None:
    replies = send(server, *[("SET", f"key-{number}", "x") for number in range(count)])
    assert replies == [True] * count


def directives(server: EmbeddedValkey) -> dict[str, str]:
    """Return how the server is configured."""
    (reply,) = send(server, ("CONFIG", "GET", "*"))
    return {_text(name): _text(value) for name, value in cast("dict[str, str]", reply).items()}


def test_acknowledged_writes_survive_kill_9(valkey: EmbeddedValkey) -> None:
    write(valkey, 500)
    valkey.kill()
    assert valkey.pid is None
    assert valkey.start() == "started"
    assert size(valkey) == 500


def test_a_second_start_finds_everything(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    write(valkey, 10)
    valkey.stop()
    with EmbeddedValkey(tmp_path / "v") as again:
        assert size(again) == 10


def test_a_running_server_is_joined_and_its_guest_does_not_stop_it(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    guest = EmbeddedValkey(tmp_path / "v")
    assert guest.start() == "joined"
    assert guest.url == valkey.url
    assert guest.pid is None
    guest.stop()
    guest.kill()
    assert valkey.answers()


def test_a_server_ends_with_its_parent_and_loses_nothing(tmp_path: Path) -> None:
    # Given a process that owns the server and writes
    folder = tmp_path / "v"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    acknowledged = int(owner.stdout.readline())
    # When it is killed without a chance to stop the server
    owner.kill()
    acknowledged = max([acknowledged, *map(int, owner.stdout.read().split())])
    owner.wait(30)
    owner.stdout.close()
    # Then a new owner waits for the old server to end, and finds what was acknowledged
    with EmbeddedValkey(folder) as server:
        assert server.pid is not None
        assert size(server) >= acknowledged


def test_a_stale_socket_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(folder / "valkey.sock"))
    with EmbeddedValkey(folder) as server:
        assert server.answers()


def test_a_deep_folder_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("deep" * 30) / "v"
    with EmbeddedValkey(folder) as server:
        write(server, 1)
        path = Path(server.url.removeprefix("unix://").partition("?")[0])
        assert len(str(path)) <= 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert EmbeddedValkey(folder).start() == "joined"


def test_a_short_socket_is_never_put_where_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"callsheet-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"callsheet-{os.getuid()}").chmod(0o777)
    with pytest.raises(ValkeyUnavailable, match="is not this user's alone"):
        EmbeddedValkey(tmp_path / ("deep" * 30) / "v")


def test_the_server_is_told_what_the_ledger_needs(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    found = directives(valkey)
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "maxmemory": "0",
        "save": "",
        "port": "0",
        "hash-max-listpack-value": "4096",
        "hash-max-listpack-entries": "64",
        "dir": str(tmp_path / "v"),
    }
    assert {name: found[name] for name in wanted} == wanted
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o700


def test_a_benchmark_may_ask_for_less_safety_and_less_memory(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, appendfsync="no", max_memory_bytes=2 * 2**20) as server:
        assert directives(server)["appendonly"] == "yes"
        assert directives(server)["appendfsync"] == "no"
        too_much = [("SET", str(number), "x" * 2**16) for number in range(100)]
        with pytest.raises(OutOfMemoryError):
            send(server, *too_much)


@pytest.mark.parametrize(
    ("stamp", "complaint"),
    [
        ({"engine": "redis", "version": "8.2.3"}, "was written by redis 8.2.3, which valkey"),
        ({"engine": "valkey", "version": "99.0.0"}, "was written by valkey 99.0.0, which valkey"),
        ({"engine": "valkey"}, "is not readable"),
        ({"engine": "valkey", "version": "new"}, "is not readable"),
        (["valkey"], "is not readable"),
    ],
)
def test_a_folder_of_another_engine_is_refused_and_not_touched(
    tmp_path: Path, stamp: object, complaint: str
) -> None:
    (tmp_path / STAMP).write_text(json.dumps(stamp))
    with pytest.raises(EngineUnfit, match=complaint) as refused:
        EmbeddedValkey(tmp_path).start()
    assert "\n" not in str(refused.value)
    assert json.loads((tmp_path / STAMP).read_text()) == stamp
    assert not (tmp_path / "appendonlydir").exists()


def test_a_folder_whose_engine_nobody_knows_is_refused(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    valkey.stop()
    (tmp_path / "v" / STAMP).unlink()
    with pytest.raises(EngineUnfit, match="written by an unknown engine"):
        valkey.start()


def test_a_refused_folder_is_not_kept_locked(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text("?")
    with pytest.raises(EngineUnfit):
        EmbeddedValkey(tmp_path).start()
    (tmp_path / STAMP).unlink()
    with EmbeddedValkey(tmp_path) as server:
        assert server.answers()


def test_a_folder_of_an_older_version_becomes_this_one_s(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text(json.dumps({"engine": "valkey", "version": "8.1.8"}))
    with EmbeddedValkey(tmp_path):
        stamp = json.loads((tmp_path / STAMP).read_text())
    assert stamp == {"engine": "valkey", "version": find_engine().version}


def test_a_locked_folder_without_a_server_is_refused_in_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValkeyUnavailable, match="is locked, but its server does not answer"):
            EmbeddedValkey(tmp_path).start(timeout=AT_ONCE)


def test_a_server_that_cannot_start_says_why(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    # Given an append-only file in which something was overwritten
    write(valkey, 10)
    valkey.stop()
    (log,) = (tmp_path / "v" / "appendonlydir").glob("*.incr.aof")
    content = log.read_bytes()
    log.write_bytes(b"garbage" + content[7:])
    # When it is started, then the reason is told, and the folder is free again
    with pytest.raises(ValkeyUnavailable, match=r"the embedded Valkey ended: .*[Bb]ad file format"):
        valkey.start()
    log.write_bytes(content)
    assert valkey.start() == "started"
    assert (tmp_path / "v" / LOG_FILE).read_text()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
