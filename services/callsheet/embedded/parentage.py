"""Children that end with their parent, even when it is killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1

# Loaded before any fork: the child must not take the dynamic linker's locks.
_libc: Final = ctypes.CDLL(None)

#: Whether this machine's kernel can do that.
CHILDREN_END_WITH_PARENT: Final[bool] = sys.platform == "linux"


def ends_with_parent() -> Callable[[], None]:
    """Return a `preexec_fn` after which the child gets SIGTERM when its parent has ended.

    Linux alone can do that; elsewhere the child lives on. The kernel means the thread that
    started the child: start children from the main thread.
    """
    parent = os.getpid()

    def ask_kernel() -> None:
        if not CHILDREN_END_WITH_PARENT:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # The parent may have ended between fork and prctl; then nobody would ever signal.
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
