"""The product's worker, with a witness: its pings do as they are told, its runner is runner.py."""

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Final

from callsheet.handlers import ping
from callsheet.runner.context import TaskContext
from callsheet.runtime.lifecycle import process_name
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.worker import main
from callsheet.worker.runner_host import RunnerHost
from tests.chaos.work import WORKER_VARIABLE, Witness, act

#: Names the file in which the process says how far its wall clock is from what passes.
CLOCK_VARIABLE: Final = "CHAOS_CLOCK_SEEN"

_LOOK_SECONDS: Final = 0.1
_JUMP_SECONDS: Final = 60.0


def run(input: PingInput, context: TaskContext) -> PingOutput:
    """Do what the echo says."""
    with _witness.watching(context):
        act(input.echo, context)
    return PingOutput(echo=input.echo)


def tell_of_jumps(seen: Path) -> None:
    """Say for ever how many seconds the wall clock has jumped since the start."""
    start = time.time() - time.monotonic()
    told = ""
    while True:
        jumped = time.time() - time.monotonic() - start
        words = str(round(jumped / _JUMP_SECONDS))
        if words != told:
            seen.write_text(words)
            told = words
        threading.Event().wait(_LOOK_SECONDS)


if __name__ == "__main__":
    # Made here, so that the attempts of its runner name the worker as the ledger does.
    name = os.environ[WORKER_VARIABLE] = process_name()
    _witness = Witness()
    ping.run = run
    main.process_name = lambda: name
    command = (sys.executable, "-m", "tests.chaos.runner")
    main.RunnerHost = partial(RunnerHost, command=command)
    clock = Path(os.environ[CLOCK_VARIABLE])
    threading.Thread(target=tell_of_jumps, args=(clock,), daemon=True).start()
    sys.exit(main.main())
