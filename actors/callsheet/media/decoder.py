"""The process that decodes, as whoever asks it sees it: confined, watched, and killed in time."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Final

from callsheet.media.limits import MediaLimits
from callsheet.media.wire import Message, WireBroken, received, send_all, sent

#: What the process is told of its surroundings: where Python and its packages are.
_ENVIRONMENT: Final = ("ESPEAK_DATA_PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH")
#: How often whoever waits looks whether to stop.
_BETWEEN_CHECKS: Final = 0.1


class Refused(Exception):
    """The file cannot be read; the message says why, and begins with a verb."""


class Decoder:
    """A process that decodes what it is handed."""

    def __init__(self, limits: MediaLimits, check: Callable[[], None]) -> None:
        """*check* is called while an answer is waited for, and ends the wait by raising."""
        self._limits = limits
        self._check = check
        self._pipe, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "callsheet.media", "decode", *_arguments(limits)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment(),
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(
        self, request: Message, *, file: IO[bytes] | None = None, largest_payload: int = 0
    ) -> tuple[Message, bytearray]:
        """Return the answer to a request, which may be about a file.

        Raises Refused, also when the process dies of the request, or is killed because it takes too
        long; it is of no use afterwards.
        """
        until = time.monotonic() + self._limits.step_time.total_seconds()
        try:
            self._send(request, file)
            message, payload = received(
                lambda buffer: self._fill(buffer, until), largest_payload=largest_payload
            )
        except (OSError, WireBroken) as error:
            raise Refused(self._death()) from error
        if isinstance(refusal := message.get("refused"), str):
            raise Refused(refusal)
        return message, payload

    def end(self) -> None:
        """Kill the process: it holds nothing that is worth keeping."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def _send(self, request: Message, file: IO[bytes] | None) -> None:
        header, *rest = sent(request)
        if file is None:
            self._pipe.sendall(header)
        else:
            # Opened anew: it then has a place of its own in the file, and cannot write to it.
            place = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                socket.send_fds(self._pipe, [header], [place])
            finally:
                os.close(place)
        send_all(self._pipe, rest)

    def _fill(self, buffer: memoryview, until: float) -> None:
        while buffer:
            self._wait(until)
            count = self._pipe.recv_into(buffer)
            if not count:
                raise WireBroken("the process is gone")
            buffer = buffer[count:]

    def _wait(self, until: float) -> None:
        """Return when there is something to read. Raises Refused when it comes too late."""
        while True:
            self._check()
            left = until - time.monotonic()
            if left <= 0:
                self._process.kill()
                seconds = self._limits.step_time.total_seconds()
                raise Refused(f"takes longer than {seconds:g} seconds for one step of decoding")
            if select.select([self._pipe], [], [], min(left, _BETWEEN_CHECKS))[0]:
                return

    def _death(self) -> str:
        """Kill what is left of the process, and say how it went."""
        try:
            code = self._process.wait(timeout=_BETWEEN_CHECKS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "makes its decoder say what nobody understands"
        if code == -signal.SIGXCPU:
            seconds = self._limits.cpu_time.total_seconds()
            return f"takes more than {seconds:g} seconds of CPU time to be decoded"
        return f"makes its decoder fail (exit code {code})"


def _arguments(limits: MediaLimits) -> list[str]:
    values = (
        limits.memory_bytes,
        limits.cpu_time.total_seconds(),
        limits.most_pixels,
        limits.longest.total_seconds(),
    )
    return [str(round(value)) for value in values]


def environment() -> Mapping[str, str]:
    """Return what a confined process is told of its surroundings: nothing that is secret."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # One thread: others would each reserve address space, of which there is little.
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
