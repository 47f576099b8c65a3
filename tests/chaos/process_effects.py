"""Faults of processes: killed, stopped, and wrong about what time it is."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import psutil

from tests.chaos.effects import Effect, NotFired, seen
from tests.chaos.faults import Fault
from tests.chaos.plane import Plane, clock_of, clock_seen_of

_RESTARTED: Final = timedelta(seconds=60)
_JUMPS: Final = ("+3600s", "-3600s", "+7d")


@asynccontextmanager
async def killed(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Kill -9; over when its supervisor has it ready again."""
    victim = await _victim(plane, fault)
    victim.kill()
    await seen(lambda: not _is_alive(victim))
    effect = Effect(f"process {victim.pid} was seen dead")
    yield effect
    if not fault.kind.endswith("runner"):  # which comes back with the next attempt for it
        gone = (None, victim.pid)
        await plane.until(lambda: plane.pid(fault.target) not in gone, within=_RESTARTED)
        await plane.ready(fault.target)
        effect.ended = f"process {plane.pid(fault.target)} is ready"


@asynccontextmanager
async def stopped(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """SIGSTOP; SIGCONT at the end."""
    victim = await _victim(plane, fault)
    victim.suspend()
    try:
        await seen(lambda: victim.status() == psutil.STATUS_STOPPED)
        yield Effect(f"process {victim.pid} was seen stopped")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.resume()


@asynccontextmanager
async def clock_jumped(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Set the wall clock of a worker; set it right again, which is one more jump."""
    await plane.ready(fault.target)
    clock, told = clock_of(plane, fault.target), clock_seen_of(plane, fault.target)
    before = told.read_text()
    _set(plane, fault.target, _JUMPS[round(fault.length * 1000) % len(_JUMPS)])
    try:
        await seen(lambda: told.read_text() not in ("", before))
        yield Effect(f"its wall clock was seen {told.read_text()} minutes off by {clock.name}")
    finally:
        _set(plane, fault.target, "+0")


def _set(plane: Plane, worker: str, offset: str) -> None:
    """Replace the file whole: it is read at each look at the clock."""
    clock = clock_of(plane, worker)
    draft = clock.with_suffix(".draft")
    draft.write_text(offset)
    draft.rename(clock)


async def _victim(plane: Plane, fault: Fault) -> psutil.Process:
    """Return the process to hit, once it is ready: in a start there is nothing to break yet."""
    try:
        await plane.ready(fault.target)
        if fault.kind.endswith("runner"):
            await seen(lambda: plane.runner(fault.target) is not None)
            found = plane.runner(fault.target)
        else:
            pid = plane.pid(fault.target)
            found = None if pid is None else psutil.Process(pid)
    except psutil.NoSuchProcess:
        found = None
    if found is None:
        raise NotFired(f"{fault.target} does not run")
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
