"""The state folder belongs to one `up` at a time."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from callsheet.embedded.deadline import Deadline

_LOCK: Final = "up.lock"
_PAUSE: Final = timedelta(milliseconds=50)


class StateFolderTaken(Exception):
    """Another `up`, or what an earlier one left behind, runs in the folder."""


class StateFolder:
    """Holds the folder's lock, which the processes started here inherit with *lock*."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.lock = -1

    async def take(self, *, timeout: timedelta, waiting: Callable[[], None]) -> None:
        """Take the folder, waiting for the processes of an earlier `up` that was killed to end.

        Calls *waiting* once when it has to wait. Raises StateFolderTaken at once when that `up`
        lives, and after *timeout* otherwise.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = Deadline(timeout)
        told = False
        while not self._locked():
            owner = self._owner()
            if owner is not None and _lives(owner):
                self.release()
                raise StateFolderTaken(
                    f"callsheetd up runs in {self.path} already, as process {owner}"
                )
            if deadline.is_over():
                self.release()
                raise StateFolderTaken(
                    f"processes of an earlier callsheetd up still run in {self.path}"
                )
            if not told:
                waiting()
                told = True
            await asyncio.sleep(_PAUSE.total_seconds())
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the folder back, as far as this process is concerned."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _owner(self) -> int | None:
        with contextlib.suppress(ValueError):
            return int(os.pread(self.lock, 32, 0))
        return None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
