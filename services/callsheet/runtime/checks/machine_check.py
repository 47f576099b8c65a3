"""Looks at the machine itself: room on its disk and in its memory, and what is installed."""

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from callsheet.runtime.checks.finding import Finding, HealthState

#: With less than this, processes are about to fail.
_SCARCE_DISK: Final = 2**30
_SCARCE_MEMORY: Final = 2**29

#: What each extra is known by, and what is missing without it.
_EXTRAS: Final = {"torch": "gpu", "ladybug": "brain"}


class MachineCheck:
    """Looks at this machine and at the folder of its state; it makes nothing."""

    name = "machine"
    is_essential = False

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def look(self) -> Finding:
        """Return how the machine is now."""
        place = next(p for p in (self._state_dir, *self._state_dir.parents) if p.exists())
        free, memory = shutil.disk_usage(place).free, psutil.virtual_memory().available
        state, reason, mend = HealthState.UP, "", ""
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            state, reason = HealthState.DOWN, "the state folder cannot be written"
            mend = f"let this user write in {place}, or set CALLSHEET_STATE_DIR"
        elif free < _SCARCE_DISK:
            state, reason, mend = HealthState.DEGRADED, "its disk is nearly full", "make room on it"
        elif memory < _SCARCE_MEMORY:
            state, reason = HealthState.DEGRADED, "little of its memory is free"
            mend = "stop other programs, or set CALLSHEET_RUNNER_MEMORY_LIMIT_BYTES"
        return Finding(
            state=state,
            reason=reason,
            detail=_described(),
            mend=mend,
            figures={"free_disk_bytes": free, "free_memory_bytes": memory},
        )


def _described() -> str:
    installed = {extra: find_spec(module) is not None for module, extra in _EXTRAS.items()}
    told = [extra if is_there else f"no {extra}" for extra, is_there in installed.items()]
    version = platform.python_version()
    return f"Python {version}, {os.cpu_count()} CPUs, extras: {', '.join(told)}"
