"""The commands people type exist, and say what they do."""

import os
import re
import subprocess
from typing import Final

from tests.repo.tree import REPOSITORY, files, relative

TARGETS: Final = (
    "setup",
    "demo",
    "demo-media",
    "up",
    "doctor",
    "test",
    "test-payload",
    "lint",
    "gen",
    "dashboard",
    "screenshots",
    "bench",
    "bench-gpu",
    "chaos",
    "mutants",
    "fuzz",
    "clean",
)


def test_make_alone_lists_every_target() -> None:
    assert _make() == _make("help")
    listed = dict(re.findall(r"^  make ([\w-]+) +(\S.*)$", _make("help"), re.MULTILINE))
    assert set(listed) == _declared()
    assert set(listed) == {"help", *TARGETS}


def test_every_target_runs_in_an_environment_that_is_set_up() -> None:
    rules = re.findall(r"^([a-z-]+):([^#\n]*)##", _makefile(), re.MULTILINE)
    alone = {target for target, needs in rules if "$(READY)" not in needs}
    assert alone == {"help", "clean"}


def test_every_target_that_a_document_names_exists() -> None:
    named = {
        f"{relative(path)}: make {target}"
        for path in files()
        if path.suffix == ".md"
        for target in _named_targets(path.read_text())
        if target not in _declared()
    }
    assert named == set()


def test_continuous_integration_runs_what_the_document_tells_people_to_run() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert {"make lint", "make test"} <= set(re.findall(r"\bmake \w+", script.read_text()))


def _named_targets(document: str) -> set[str]:
    """Return the targets in code: in a block of shell lines, or between backticks."""
    code = re.findall(r"```(?:sh|shell|bash|console)\n(.*?)```", document, re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", document)
    return set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(code)))


def _declared() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", _makefile(), re.MULTILINE)
    return set(phony.split())


def _makefile() -> str:
    return (REPOSITORY / "Makefile").read_text()


def _make(*targets: str) -> str:
    """Run make as a person does, also when these tests were started by make."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    command = ["make", "--no-print-directory", *targets]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.stdout
