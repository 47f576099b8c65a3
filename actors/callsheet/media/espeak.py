"""The embedded voice: espeak-ng, in a process that is confined as the one that decodes is."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self, cast

from callsheet.media.decoder import environment
from callsheet.media.limits import MediaLimits
from callsheet.runner.context import HandlerFailure
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT, FAILURE_REASON_UNAVAILABLE

if TYPE_CHECKING:
    from callsheet.media.sound_decoding import Waveform

PROGRAM: Final = "espeak-ng"
#: The language that is spoken when nobody says.
LANGUAGE: Final = "en"

_WORDS_A_MINUTE: Final = 175
_PITCH: Final = 50
_HIGHEST: Final = 99
_HEADER: Final = 44
_BLOCK: Final = 2**16
_BETWEEN_CHECKS: Final = 0.1
_SAMPLE: Final = 2
#: What it writes as its reason, at most.
_REASON: Final = 200


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a text is said."""

    language: str = LANGUAGE
    speed: float = 1.0
    """1 is the voice's own."""
    pitch: float = 1.0
    """0 to 2; 1 is the voice's own."""

    def arguments(self) -> list[str]:
        """Return it as the program's arguments."""
        return [
            "-v",
            self.language,
            "-s",
            str(round(_WORDS_A_MINUTE * self.speed)),
            "-p",
            str(min(_HIGHEST, round(_PITCH * self.pitch))),
        ]


class Espeak:
    """A text being said: its samples as they come, of one channel.

    Raises HandlerFailure: UNAVAILABLE when the program is not installed, INVALID_INPUT when it does
    not speak the language, or takes longer than the limits allow. *check* raises TaskStopped.
    """

    def __init__(
        self,
        text: str,
        manner: Manner,
        *,
        limits: MediaLimits,
        check: Callable[[], None],
        folder: Path,
    ) -> None:
        """*folder* is where the text is kept meanwhile, without a name."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise HandlerFailure(
                FAILURE_REASON_UNAVAILABLE, f"{PROGRAM} is not installed where this task ran"
            )
        self._limits = limits
        self._check = check
        self._manner = manner
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bounds = (str(limits.memory_bytes), str(round(limits.cpu_time.total_seconds())))
        with tempfile.TemporaryFile(dir=folder) as words:
            words.write(text.encode())
            words.seek(0)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "callsheet.media", "run", *bounds, program),
                    *manner.arguments(),
                    *("-b", "1", "--stdin", "--stdout"),
                ],
                stdin=words,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
        #: Samples a second.
        self.rate = 0

    def __enter__(self) -> Self:
        try:
            self.rate = self._announced_rate()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def samples(self) -> "Iterator[Waveform]":
        """Yield what is said."""
        import numpy as np

        most = round(self._limits.longest.total_seconds() * self.rate) * _SAMPLE
        while content := self._read(_BLOCK):
            most -= len(content)
            if most < 0:
                seconds = self._limits.longest.total_seconds()
                raise _invalid(f"saying the text takes longer than {seconds:g} seconds")
            whole = content[: len(content) - len(content) % _SAMPLE]
            numbers = np.frombuffer(whole, dtype="<i2")
            yield np.asarray(numbers[None, :] / 32768, dtype=np.float32)
        if self._process.wait() != 0:
            raise self._failure()

    def _announced_rate(self) -> int:
        """Return the rate that the head of the WAV names; its lengths are not known yet."""
        head = self._read(_HEADER)
        if len(head) < _HEADER or head[:4] != b"RIFF":
            raise self._failure()
        return int.from_bytes(head[24:28], "little")

    def _read(self, size: int) -> bytes:
        """Return so many bytes, or as many as there are before the end."""
        content = bytearray()
        until = time.monotonic() + self._limits.step_time.total_seconds()
        pipe = cast("IO[bytes]", self._process.stdout)
        while len(content) < size:
            self._check()
            left = until - time.monotonic()
            if left <= 0:
                seconds = self._limits.step_time.total_seconds()
                raise _invalid(f"the voice was silent for longer than {seconds:g} seconds")
            if not select.select([pipe], [], [], min(left, _BETWEEN_CHECKS))[0]:
                continue
            if not (some := os.read(pipe.fileno(), size - len(content))):
                break
            content += some
        return bytes(content)

    def _failure(self) -> HandlerFailure:
        """Say why the program ended without saying anything."""
        self._process.kill()
        self._process.wait()
        told = cast("IO[bytes]", self._process.stderr).read(_REASON).decode(errors="replace")
        if "voice" in told:
            return _invalid(f"the embedded voice does not speak {self._manner.language!r}")
        return _invalid(f"the embedded voice cannot say the text: {told.strip() or 'it failed'}")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _invalid(message: str) -> HandlerFailure:
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
