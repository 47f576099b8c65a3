"""Real processes of the plane, started, awaited and killed."""

import os
import selectors
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from callsheet.runtime.lifecycle import READY_LINE, READY_VARIABLE

SECONDS = 60.0


class Room:
    """One `python -m callsheet.<room>` process; what it writes goes to *log* or where ours goes."""

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        *,
        arguments: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        self.name = name
        reading, writing = os.pipe()
        self._ready = reading
        with ExitStack() as stack:
            stack.callback(os.close, writing)
            output = stack.enter_context(log.open("ab")) if log is not None else None
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"callsheet.{name}", *arguments],
                env={**os.environ, **environment, READY_VARIABLE: str(writing)},
                stdout=output,
                stderr=output,
                pass_fds=[writing],
            )

    def await_ready(self) -> "Room":
        """Return when the process says that it does its work."""
        with selectors.DefaultSelector() as selector, os.fdopen(self._ready, "rb") as pipe:
            selector.register(pipe, selectors.EVENT_READ)
            assert selector.select(SECONDS), f"{self.name} is not ready in time"
            assert pipe.readline() == READY_LINE, f"{self.name} ended before it was ready"
        return self

    def terminate(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.terminate()
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """Send SIGKILL, and return when it is gone."""
        self.process.kill()
        self.process.wait(SECONDS)


@contextmanager
def room(name: str, environment: Mapping[str, str]) -> Generator[Room]:
    """A ready process, killed at the end unless it has ended."""
    started = Room(name, environment)
    try:
        yield started.await_ready()
    finally:
        if started.process.poll() is None:
            started.kill()
