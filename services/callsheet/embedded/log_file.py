"""Log files of supervised processes, kept from growing without an end."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

#: The size past which a log is moved to `<name>.log.1`, whose content is given up.
LARGEST_LOG_BYTES: Final = 16 * 2**20

_TAIL_BYTES: Final = 64 * 2**10


def cap(log: Path, *, largest_bytes: int = LARGEST_LOG_BYTES) -> bool:
    """Move a log that has grown too large aside, under its writers; return whether it was done.

    The writers append, so they go on at the new beginning. Lines written while it is copied are
    lost, which is the price of not asking every process to open its log anew.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > largest_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
            return True
    return False


def last_lines(log: Path, *, count: int) -> list[str]:
    """Return the last lines of a log, as far as its last 64 KiB hold them."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.strip()][-count:]
