"""The life of real processes: asked to stop, they drain; asked twice, they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from callsheet.runtime.lifecycle import announce_ready

PROGRAM = """
import asyncio, os, signal, sys, threading, time
from datetime import timedelta
from callsheet.runtime.lifecycle import announce_ready, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.settings import Settings

def say(word):
    print(word, flush=True)

{main}

if __name__ == "__main__":
    configure_logging(Settings(), process="x")
    sys.exit(run_until_signalled(main, drain_timeout=timedelta(seconds={drain})))
"""

DRAINS = """
async def main(stop):
    say("running on " + type(asyncio.get_running_loop()).__module__)
    await stop.wait()
    say("drained")
"""

NEVER_DRAINS = """
async def main(stop):
    say("running")
    await stop.wait()
    say("draining")
    await asyncio.Event().wait()
"""

IGNORES_CANCELLATION = """
async def main(stop):
    say("running")
    await stop.wait()
    say("draining")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("cancelled")
            sys.stdout.close()
            os._exit(9)
"""

FAILS = """
async def main(stop):
    raise RuntimeError("no such device")
"""

REFUSES = """
async def main(stop):
    raise SystemExit({code!r})
"""

ENDS = """
async def main(stop):
    say("done")
"""


@contextmanager
def process(main: str, *, drain: float = 30) -> Generator[subprocess.Popen[str], None, None]:
    """A process that runs *main* until it is signalled."""
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(main=main, drain=drain)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate(timeout=30)


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_process_drain(number: signal.Signals) -> None:
    with process(DRAINS) as running:
        assert line(running) == "running on uvloop"
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
        assert out == "drained\n"
        assert running.returncode == 0
        assert json.loads(err)["event"] == "stop_requested"
        assert json.loads(err)["signal"] == number.name


def test_a_second_signal_ends_the_process_at_once() -> None:
    with process(NEVER_DRAINS) as running:
        assert line(running) == "running"
        running.terminate()
        assert line(running) == "draining"
        running.terminate()
        assert running.wait(60) == -signal.SIGTERM


def test_a_drain_that_takes_too_long_is_cut_short() -> None:
    with process(NEVER_DRAINS, drain=0.05) as running:
        assert line(running) == "running"
        running.terminate()
        _, err = running.communicate(timeout=60)
        assert running.returncode == 3
        assert [json.loads(each)["event"] for each in err.splitlines()] == [
            "stop_requested",
            "drain_timed_out",
        ]


def test_what_drains_too_long_is_cancelled() -> None:
    with process(IGNORES_CANCELLATION, drain=0.05) as running:
        assert line(running) == "running"
        running.terminate()
        assert line(running) == "draining"
        assert line(running) == "cancelled"
        assert running.wait(60) == 9


def test_a_main_that_fails_is_logged_and_ends_the_process() -> None:
    with process(FAILS) as running:
        _, err = running.communicate(timeout=60)
        assert running.returncode == 1
        assert json.loads(err)["event"] == "process_failed"
        assert json.loads(err)["exception"][0]["exc_value"] == "no such device"


@pytest.mark.parametrize(("code", "exit_code"), [(78, 78), (0, 0), (None, 0)])
def test_a_main_that_exits_decides_the_exit_code(code: int | None, exit_code: int) -> None:
    with process(REFUSES.format(code=code)) as running:
        _, err = running.communicate(timeout=60)
        assert (running.returncode, err) == (exit_code, "")


def test_a_main_that_exits_with_a_sentence_is_told_in_one_line() -> None:
    with process(REFUSES.format(code="REDIS_URL is not set")) as running:
        _, err = running.communicate(timeout=60)
        assert running.returncode == 1
        (line,) = [json.loads(each) for each in err.splitlines()]
        assert (line["event"], line["reason"]) == ("process_refused", "REDIS_URL is not set")


def test_a_main_that_returns_ends_the_process_well() -> None:
    with process(ENDS) as running:
        out, err = running.communicate(timeout=60)
        assert (out, err, running.returncode) == ("done\n", "", 0)


def test_a_supervised_process_announces_itself_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("CALLSHEET_READY_FD", str(writing))
    with os.fdopen(reading, "rb") as announcements:
        announce_ready()
        announce_ready()
        assert announcements.read() == b"READY\n"
    assert "CALLSHEET_READY_FD" not in os.environ


def test_a_process_without_a_supervisor_announces_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CALLSHEET_READY_FD", raising=False)
    announce_ready()
