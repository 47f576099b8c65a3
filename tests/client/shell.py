"""The command `callsheet` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: The id of a task that is not there.
NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"

TIMEOUT = 60


class Shell:
    """Runs the command as a user would, in an empty folder."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("CALLSHEET_")
        }
        self.environment = inherited | environment

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "callsheet.client.cli", *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """The answer of a command that must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> tuple[int, str]:
        """The exit code and the one line of a command that must not succeed."""
        done = self.run(*arguments)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, done.stderr


def objects(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]
