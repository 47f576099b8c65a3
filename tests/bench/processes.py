"""Processes of contenders, which end with the bench however it ends."""

import os
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from callsheet.embedded.parentage import ends_with_parent

_GRACE_SECONDS: Final = 5.0


@contextmanager
def running(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """Run *command* in *folder* with its output in *log*; stop it and its children at the end."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its children are found again by their group
            preexec_fn=ends_with_parent(),  # noqa: PLW1509  # calls the kernel and nothing else
        ) as process,
    ):
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    # What is left of its children, and the process itself when it did not hear.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
