"""Fuzzes for as long as it is told; what breaks something goes into the corpus of its target.

Half of each target's time goes to Atheris, which follows what the code does with the bytes, and
half to mutations and messages that are made from their descriptors. Without Atheris, all of it.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc
from typing import Final, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz.corpus import CORPUS, entries, keep
from tests.fuzz.mutation import UNHURRIED, inputs
from tests.fuzz.target import Check, Target
from tests.fuzz.targets import TARGETS

#: Inputs between two looks at the clock; what a target has set up is made anew after them.
_ROUND: Final = 500
#: What a decoder may take for one input, in seconds, and the process altogether, in MiB.
_SLOWEST: Final = 25
_LARGEST_PROCESS: Final = 4096
_LARGEST_INPUT: Final = 65_536
#: Inputs tried to make one that breaks something smaller.
_TRIES: Final = 2000


class _Broken(NamedTuple):
    """An input that broke something, and what it broke with."""

    content: bytes
    error: type[Exception]


def main() -> int:
    """Fuzz; return 1 when something broke."""
    asked = _command_line().parse_args()
    names: list[str] = asked.target or list(TARGETS)
    share = asked.seconds / len(names)
    broken: list[str] = []
    for name in names:
        found = list(_fuzzed(TARGETS[name], seconds=share))
        _say(f"{name:<16} {'ok' if not found else 'BROKEN'}")
        broken += found
    for place in broken:
        _say(f"kept: {place}")
    return 1 if broken else 0


def _command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="for all targets together")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this one")
    return parser


def _fuzzed(target: Target, *, seconds: float) -> Iterator[str]:
    """Yield the place of each input that broke the target."""
    if find_spec("atheris") is None:
        _say("atheris is not installed: mutations only")
        yield from _mutated(target, seconds=seconds)
        return
    yield from _explored(target, seconds=max(1, round(seconds / 2)))
    yield from _mutated(target, seconds=seconds / 2)


def _explored(target: Target, *, seconds: int) -> Iterator[str]:
    """Run Atheris in a process of its own, which it ends when something breaks."""
    with TemporaryDirectory() as folder:
        found, artifacts = Path(folder, "found"), Path(folder, "artifacts")
        found.mkdir()
        artifacts.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.exploring", target.name]
        command += [f"-max_total_time={seconds}", f"-timeout={_SLOWEST}", "-verbosity=0"]
        command += [f"-rss_limit_mb={_LARGEST_PROCESS}", f"-max_len={_LARGEST_INPUT}"]
        command += [f"-artifact_prefix={artifacts}/", str(found), str(CORPUS / target.name)]
        said = Path(folder, "said")
        # Into a file: what a target starts may hold a pipe open for longer than it is waited for.
        with said.open("wb") as file:
            done = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT)
        kept = [str(keep(target.name, file.read_bytes())) for file in artifacts.iterdir()]
        if done.returncode:
            _say(said.read_text(errors="replace")[-4000:])
            # Without an input it is not the target that broke, and that must be seen as well.
            yield from kept or [f"nothing, but Atheris ended with {done.returncode}"]


def _mutated(target: Target, *, seconds: float) -> Iterator[str]:
    end = time.monotonic() + seconds
    corpus = list(entries(target.name).values())
    while time.monotonic() < end:
        broken: list[_Broken] = []
        with target.opened() as check:
            try:
                _round(check, inputs(target, corpus), end=end, broken=broken)
            except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
                _say(format_exc())
            kept = [_smallest(check, one) for one in sorted(broken, key=_length)[:1]]
        if kept:
            yield str(keep(target.name, *kept))
            return


def _length(broken: _Broken) -> int:
    return len(broken.content)


def _smallest(check: Check, broken: _Broken) -> bytes:
    """Leave out of an input what it breaks just as well without: from half of it to single bytes.

    Hypothesis makes the choices behind an input small, which may leave the input long.
    """
    content, tries = broken.content, iter(range(_TRIES))
    piece = len(content) // 2
    while piece:
        start = 0
        while start < len(content):
            if next(tries, None) is None:
                return content
            shorter = content[:start] + content[start + piece :]
            if _breaks(check, shorter, broken.error):
                content = shorter
            else:
                start += piece
        piece //= 2
    return content


def _breaks(check: Check, content: bytes, error: type[Exception]) -> bool:
    try:
        check(content)
    except error:
        return True
    except Exception:  # noqa: BLE001  # another defect: not the one that is made small
        return False
    return False


def _round(
    check: Check, given_to_it: SearchStrategy[bytes], *, end: float, broken: list[_Broken]
) -> None:
    """Check a number of inputs, fewer where the time is over; make one that breaks it small."""

    @settings(
        max_examples=_ROUND,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=UNHURRIED,
    )
    @given(content=given_to_it)
    def mutated(content: bytes) -> None:
        if not broken and time.monotonic() >= end:
            return
        try:
            check(content)
        except Exception as error:
            broken.append(_Broken(content, type(error)))
            raise

    mutated()


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
