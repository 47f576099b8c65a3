"""What a confined process may not do."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GIB = 2**30


def run_confined(
    code: str, *, memory_bytes: int = GIB, cpu_seconds: int = 60
) -> subprocess.CompletedProcess[str]:
    bounds = (str(memory_bytes), str(cpu_seconds))
    command = [sys.executable, "-m", "callsheet.media", "run", *bounds, sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_it_gets_no_more_memory_than_it_may_have() -> None:
    ended = run_confined("bytearray(2**30)", memory_bytes=GIB // 2)
    assert "MemoryError" in ended.stderr


def test_it_is_killed_when_it_has_used_its_time() -> None:
    assert run_confined("while True: pass", cpu_seconds=1).returncode == -signal.SIGXCPU


def test_it_writes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "written"
    ended = run_confined(f"open({str(path)!r}, 'wb', buffering=0).write(b'x')")
    assert ended.returncode != 0
    assert path.stat().st_size == 0


def test_its_bounds_stay_when_they_were_lower_before() -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[1])"
    assert run_confined(code).stdout.strip() == "0"
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != GIB  # this process is as free as before


def _may_have_namespaces() -> bool:
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x50000000) != 0)"
    return subprocess.run([sys.executable, "-c", probe], check=False, timeout=60).returncode == 0


def test_it_reaches_no_network() -> None:
    if not _may_have_namespaces():
        pytest.skip("this kernel gives processes no network of their own: not tested")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
        ended = run_confined(code)
    assert ended.returncode == 1
    assert "OSError" in ended.stderr


def test_it_dies_with_whoever_started_it() -> None:
    # Given a process that starts a confined one, and says who that is
    starter = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'callsheet.media', 'run',"
        f" '{GIB}', '60', sys.executable, '-c', 'print(1, flush=True); input()'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watch = os.pidfd_open(pid)
        # When the starter is killed, then the confined process ends
        process.kill()
    try:
        assert select.select([watch], [], [], 30)[0]
    finally:
        os.close(watch)
