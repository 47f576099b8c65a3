"""What the process that decodes may not do, whatever a file makes it do."""

import ctypes
import resource
import sys
from datetime import timedelta
from typing import Final

from callsheet.runner.lifeline import die_with_parent, outlive_polite_signals

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_MOST_FILES: Final = 128


def confine(*, memory_bytes: int, cpu_time: timedelta) -> None:
    """Bound this process's memory, CPU time and files, and take the network from it.

    The bounds are the kernel's own: it kills the process, or gives it no memory. It writes no file
    and no core. The network goes where the kernel lets processes without rights have namespaces of
    their own; elsewhere nothing that is imported here opens a connection.
    """
    die_with_parent()
    outlive_polite_signals()
    seconds = max(1, round(cpu_time.total_seconds()))
    _bound(resource.RLIMIT_CPU, seconds, hard=seconds + 1)  # the first one is a signal that tells
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
    ):
        _bound(kind, most, hard=most)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            libc.unshare(_CLONE_NEWNET)


def _bound(kind: int, most: int, *, hard: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, before = resource.getrlimit(kind)
    if before == resource.RLIM_INFINITY or hard <= before:
        resource.setrlimit(kind, (most, hard))
