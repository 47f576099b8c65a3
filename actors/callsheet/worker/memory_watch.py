"""How much memory a runner holds, watched from outside.

Watched and never limited by the kernel's RLIMIT_AS: torch maps far more than it touches.
"""

import asyncio
from datetime import timedelta
from typing import Final

import psutil

_PERIOD: Final = timedelta(milliseconds=250)


async def memory_above(pid: int, *, limit_bytes: int) -> int:
    """Return what a process and its children hold, in bytes, as soon as it is above the limit.

    Waits for as long as it is not, and for ever once the process is gone: cancel it then.
    """
    while True:
        # In a thread: finding the children of a process reads all of /proc.
        held = await asyncio.to_thread(resident_bytes, pid)
        if held > limit_bytes:
            return held
        await asyncio.sleep(_PERIOD.total_seconds())


def resident_bytes(pid: int) -> int:
    """Return what a process and its children hold now, in bytes; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_resident_bytes(member) for member in family)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
