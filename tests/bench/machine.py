"""The machine a run was made on, in one line."""

import os
import platform
from pathlib import Path

from callsheet.embedded.engine import find_engine

_CPUS = Path("/proc/cpuinfo")


def machine_line() -> str:
    """Return system, kernel, CPU, cores, load, and the versions that matter."""
    engine = find_engine()
    words = (
        f"{platform.system()} {platform.release()} {platform.machine()}",
        processor(_CPUS.read_text() if _CPUS.exists() else ""),
        f"{os.cpu_count()} cores",
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"Python {platform.python_version()}",
        f"{engine.name} {engine.version}",
    )
    return ", ".join(words)


def processor(cpuinfo: str) -> str:
    """Return the model that /proc/cpuinfo names."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown CPU"
