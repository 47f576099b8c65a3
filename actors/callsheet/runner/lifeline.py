"""What ties a runner's life to its worker's: no runner holds a device for a worker that is gone.

Three cords, because each alone can fail: the kernel's parent-death signal (Linux only, and bound to
the thread that started the runner), the end of the pipe (late while C code holds the interpreter),
and the parent's process id (asked now and then).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends. Linux only."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def parent_watch() -> Callable[[], bool]:
    """Return what tells whether the parent of this moment still is our parent."""
    parent = os.getppid()
    return lambda: os.getppid() == parent


def outlive_polite_signals() -> None:
    """Ignore Ctrl-C and SIGTERM: both reach whole process groups, and the worker drains first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
