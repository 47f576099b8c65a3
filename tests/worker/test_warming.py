"""Runners are started ahead of their tasks, and get as long as they need."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.broker.slots import Slots
from callsheet.runtime.settings import Settings
from callsheet.worker.runner_host import READY_WITHIN, RunnerHost, RunnerUnavailable
from callsheet.worker.warming import compiles_ahead, ready_within, start_ahead

#: Is ready when it finds the file that is its argument.
READY_LATER = """
import argparse, pathlib, socket, sys, threading
from callsheet.internal.v1.pipe_pb2 import FromRunner, RunnerReady
from callsheet.runner.frames import encode
parser = argparse.ArgumentParser()
parser.add_argument("file", type=pathlib.Path)
parser.add_argument("--fd", type=int)
parser.add_argument("--device")
given = parser.parse_args()
pipe = socket.socket(fileno=given.fd)
for _ in range(6000):
    if given.file.exists():
        break
    threading.Event().wait(0.01)
pipe.sendall(encode(FromRunner(ready=RunnerReady(device=given.device))))
pipe.recv(1)
"""


#: The product's runner, on a device that cannot compute what the settings ask for.
REFUSING = """
import sys
from callsheet.runner.main import serve
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.tuning import TuningRefused
def warm_up(self, *, limit):
    raise TuningRefused("CALLSHEET_ATTENTION: flash cannot be computed on cuda:0")
Pipelines.warm_up = warm_up
serve(sys.argv[1:])
"""


def test_a_runner_that_compiles_has_the_time_for_it() -> None:
    compiling = Settings(compile="regional", warm_up_limit=timedelta(minutes=20))
    assert ready_within(compiling, device="cuda:0") == timedelta(minutes=20) + READY_WITHIN
    # On the CPU nothing is compiled
    assert ready_within(compiling, device="cpu") == READY_WITHIN
    assert ready_within(Settings(), device="cuda:0") == READY_WITHIN
    assert compiles_ahead(compiling, device="cuda:0")
    assert not compiles_ahead(Settings(), device="cuda:0")


async def test_no_task_is_claimed_for_a_runner_that_still_compiles(tmp_path: Path) -> None:
    slots, file = Slots(1), tmp_path / "compiled"
    host = RunnerHost("cuda:0", command=(sys.executable, "-c", READY_LATER, str(file)))
    try:
        started = start_ahead(host, slots, holds_slot=True)
        assert slots.free == 0
        file.touch()
        async with asyncio.timeout(60):
            assert await slots.some_free() == 1
            await started
        assert host.pid is not None
    finally:
        await host.close()


async def test_a_runner_that_does_not_start_gives_its_slot_back() -> None:
    slots = Slots(1)
    host = RunnerHost(
        "cuda:0", command=("no-such-program",), first_backoff=timedelta(milliseconds=1)
    )
    async with asyncio.timeout(60):
        await start_ahead(host, slots, holds_slot=True)
    assert slots.free == 1


async def test_a_runner_that_compiles_nothing_is_claimed_for_at_once() -> None:
    slots = Slots(1)
    host = RunnerHost("cpu", command=("no-such-program",), first_backoff=timedelta(milliseconds=1))
    started = start_ahead(host, slots, holds_slot=False)
    assert slots.free == 1
    async with asyncio.timeout(60):
        await started
    assert slots.free == 1


async def test_a_runner_whose_device_refuses_the_settings_is_not_tried_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    host = RunnerHost(
        "cuda:0", command=(sys.executable, "-c", REFUSING), first_backoff=timedelta(minutes=5)
    )
    with pytest.raises(RunnerUnavailable, match="the runner of cuda:0 refused its settings"):
        async with asyncio.timeout(60):
            await host.start()
    await host.close()
    assert "CALLSHEET_ATTENTION: flash cannot be computed on cuda:0\n" in capfd.readouterr().err
