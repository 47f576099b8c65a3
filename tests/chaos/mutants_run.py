"""Runs every mutant of the product and sees that it is caught: `make mutants [ARGS="NAME …"]`.

Each mutant lives in a copy of the tree, which comes before the installed packages. In the end the
tests and runs that caught one are made on a copy without a defect, where none of them may fail:
only then do they prove anything. Writes `build/mutants.json`; exits 1 if a mutant survives.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple, cast

from tests.chaos.checks.report import VACUOUS
from tests.chaos.mutants import MUTANTS, Mutant

REPOSITORY: Final = Path(__file__).parents[2]
OUTCOME: Final = REPOSITORY / "build" / "mutants.json"
ROOTS: Final = ("protos/gen", "clients", "services", "actors")
_COPIED: Final = (*ROOTS, "tests", "pyproject.toml")
_RUN: Final = "run:"
_RUN_ARGUMENTS: Final = ("--seconds", "8", "--seed", "1", "--rate", "40", "--every", "1.5")
#: In seconds. A catcher that takes longer has not caught.
_LIMIT: Final = 400
#: Mutants under way at a time, and chaos runs among them: each has a dozen processes.
_AT_A_TIME: Final = 2
_RUNS_AT_A_TIME: Final = Lock()
#: What pytest answers when tests have failed, and when all have passed.
_PASSED, _FAILED = 0, 1


class CannotTell(Exception):
    """A catcher could not run, so that it proves nothing."""


class Verdict(NamedTuple):
    """What a catcher says of a tree: whether it failed and of what, and its last words."""

    failed: bool
    what: str = ""
    words: str = ""


class Caught(NamedTuple):
    """What caught a mutant, and what it then said; both are empty when it survived."""

    catcher: str = ""
    what: str = ""

    def __str__(self) -> str:
        """Return both in one line."""
        return f"{self.catcher} → {self.what}" if self.what else self.catcher


def applied(mutant: Mutant, tree: Path) -> None:
    """Put the defect into a copy of the tree. Raises CannotTell unless it fits exactly once."""
    path = tree / mutant.file
    content = path.read_text()
    if content.count(mutant.find) != 1:
        raise CannotTell(f"its place in {mutant.file} is there {content.count(mutant.find)} times")
    path.write_text(content.replace(mutant.find, mutant.becomes))


def copied(folder: Path) -> Path:
    """Return a copy of what the catchers need."""
    for name in _COPIED:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def tried(catcher: str, tree: Path) -> Verdict:
    """Run a pytest node, several with blanks between, or a chaos run. Raises CannotTell."""
    if catcher.startswith(_RUN):
        return _run(catcher.removeprefix(_RUN).split(), tree)
    ended = _ended(["-m", "pytest", "-q", "-x", "--no-header", *catcher.split()], tree)
    words = (ended.stdout + ended.stderr)[-3000:]
    if ended.returncode not in (_PASSED, _FAILED):
        raise CannotTell(f"pytest ended with {ended.returncode}: {words}")
    return Verdict(ended.returncode == _FAILED, words=words)


def _run(kinds: Sequence[str], tree: Path) -> Verdict:
    """Make a chaos run; only what the checker found counts, or what was never done."""
    told = tree / "build" / "chaos.json"
    told.unlink(missing_ok=True)
    with _RUNS_AT_A_TIME:
        ended = _ended(["-m", "tests.chaos.run", *_RUN_ARGUMENTS, "--kinds", *kinds], tree)
    words = (ended.stdout + ended.stderr)[-3000:]
    if not told.is_file():
        raise CannotTell(f"the run broke off: {words}")
    outcome = cast("Mapping[str, object]", json.loads(told.read_bytes()))
    violations = cast("Sequence[Mapping[str, str]]", outcome["violations"])
    found = {each["invariant"] for each in violations if each["about"] != VACUOUS}
    broken = sorted(found) or ["left undone"] * bool(outcome["left"])
    return Verdict(bool(broken), ", ".join(broken), words)


def _ended(arguments: Sequence[str], tree: Path) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(str(tree / root) for root in (*ROOTS, "."))
    environment = {**os.environ, "PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotTell(f"it was not done within {_LIMIT} s") from error


def caught_by(name: str, mutant: Mutant) -> Caught:
    """Return what catches the mutant, after saying so."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        caught = _caught(name, mutant, Path(folder))
    word = "caught  " if caught.catcher else "SURVIVED"
    _say(f"{word} {time.monotonic() - began:5.0f} s  {name}: {caught}")
    return caught


def _caught(name: str, mutant: Mutant, folder: Path) -> Caught:
    tree = copied(folder)
    applied(mutant, tree)
    for catcher in mutant.catchers:
        try:
            verdict = tried(catcher, tree)
        except CannotTell as error:
            _say(f"{name}: {catcher} cannot tell: {error}")
        else:
            if verdict.failed:
                return Caught(catcher, verdict.what)
    return Caught()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def broken_anyhow(catchers: Iterable[str]) -> list[str]:
    """Return which catchers fail without a defect, each with its last words."""
    runs = [catcher for catcher in catchers if catcher.startswith(_RUN)]
    nodes = " ".join(catcher for catcher in catchers if not catcher.startswith(_RUN))
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="unbroken-") as folder:
        tree = copied(Path(folder))
        for catcher in [nodes, *runs] if nodes else runs:
            verdict = tried(catcher, tree)
            if verdict.failed:
                failed.append(f"{catcher}: {verdict.what}\n{verdict.words}")
    return failed


def main(arguments: Sequence[str]) -> int:
    """Run the mutants; return 1 when one survives, 2 when the catchers prove nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants_run", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose names have one of these")
    words = cast("list[str]", parser.parse_args(arguments).words)
    chosen = {
        name: mutant
        for name, mutant in MUTANTS.items()
        if not words or any(word in name for word in words)
    }
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        asked = {name: pool.submit(caught_by, name, mutant) for name, mutant in chosen.items()}
        outcome = {name: future.result() for name, future in asked.items()}
    OUTCOME.parent.mkdir(exist_ok=True)
    told = {name: str(caught) for name, caught in outcome.items()}
    OUTCOME.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    survivors = [name for name, caught in outcome.items() if not caught.catcher]
    _say(f"{len(outcome)} mutants, {len(survivors)} survived: see {OUTCOME}")
    used = dict.fromkeys(caught.catcher for caught in outcome.values() if caught.catcher)
    broken = broken_anyhow(used)
    for each in broken:
        _say(f"It fails without any defect, and so proves nothing: {each}")
    return 2 if broken else int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
