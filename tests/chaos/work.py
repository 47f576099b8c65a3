"""What tasks of a chaos run do: as they are told, and each attempt writes down that it runs."""

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from callsheet.runner.context import HandlerFailure, TaskContext, TaskStopped
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.chaos.history import HistoryWriter, WorkEnded, WorkStarted

#: Tell a worker and its runner where to write, and who they are.
RUN_VARIABLE: Final = "CHAOS_RUN"
PROCESS_VARIABLE: Final = "CHAOS_PROCESS"
WORKER_VARIABLE: Final = "CHAOS_WORKER"

#: stumble: only the first attempt fails. poison: the process that runs it dies.
Verb = Literal["succeed", "fail", "stumble", "reject", "poison"]


def told(verb: Verb, length: timedelta) -> str:
    """Return the words that make a task do this after that time."""
    return f"{verb} after {length // timedelta(milliseconds=1)} ms"


def act(words: str, context: TaskContext) -> None:
    """Do what the words say. Raises TaskStopped, HandlerFailure, RuntimeError."""
    verb, _, milliseconds, *_ = words.split()
    context.wait(timedelta(milliseconds=int(milliseconds)))
    match verb:
        case "fail":
            raise RuntimeError("told to fail")
        case "stumble" if context.attempt == 1:
            raise RuntimeError("told to fail once")
        case "reject":
            raise HandlerFailure(FAILURE_REASON_INVALID_INPUT, "told to refuse")
        case "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            return


class Witness:
    """Writes down the attempts of one process."""

    def __init__(self) -> None:
        self._process = os.environ[PROCESS_VARIABLE]
        self._worker = os.environ[WORKER_VARIABLE]
        observer = f"work-{self._process}-{os.getpid()}"
        self._history = HistoryWriter(Path(os.environ[RUN_VARIABLE]), observer)

    @contextmanager
    def watching(self, context: TaskContext) -> Generator[None]:
        """Write that the attempt began, and how it ended."""
        self._history.write(
            WorkStarted(
                at=time.monotonic(),
                task_id=context.task_id,
                attempt=context.attempt,
                worker=self._worker,
                process=self._process,
                pid=os.getpid(),
            )
        )
        outcome: Literal["returned", "raised", "cancelled"] = "raised"
        try:
            yield
            outcome = "returned"
        except TaskStopped:
            outcome = "cancelled"
            raise
        finally:
            self._history.write(
                WorkEnded(
                    at=time.monotonic(),
                    task_id=context.task_id,
                    attempt=context.attempt,
                    worker=self._worker,
                    process=self._process,
                    pid=os.getpid(),
                    outcome=outcome,
                )
            )
