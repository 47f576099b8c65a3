"""Faults of what the plane stands on: the server of the ledger, and the disk of the artifacts."""

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.exceptions import OutOfMemoryError, RedisError

from tests.chaos.effects import Effect, NotFired, seen
from tests.chaos.faults import Fault
from tests.chaos.plane import Plane
from tests.chaos.topology import VALKEY

_FSYNC_DELAY_MICROSECONDS: Final = 120_000
_DISK: Final = "24m"
_FILLER: Final = "filler"


@asynccontextmanager
async def client_paused(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Have the server answer nobody for the fault's length."""
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        await plane.redis.execute_command("CLIENT", "PAUSE", round(fault.length * 1000), "ALL")  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        await plane.redis.ping()  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
    except (RedisError, OSError) as error:
        raise NotFired(f"the server did not answer: {error}") from error
    waited = clock() - began
    if waited < fault.length / 2:
        raise NotFired(f"a PING was answered after {waited:.3f} s")
    yield Effect(f"a PING was answered after {waited:.3f} s")


@asynccontextmanager
async def slow_to_sync(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Make every fdatasync of the server take longer, by strace."""
    trace = plane.folder / f"fdatasync-{fault.at}.trace"
    trace.touch()
    tracer = await asyncio.create_subprocess_exec(
        *("strace", "-qq", "-f", "-o", str(trace), "-p", str(plane.pid(VALKEY))),
        *("-e", "trace=fdatasync"),
        *("-e", f"inject=fdatasync:delay_enter={_FSYNC_DELAY_MICROSECONDS}"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    def delayed() -> int:
        return trace.read_text().count("DELAYED")

    try:
        await seen(lambda: delayed() > 0)
        effect = Effect("strace delayed fdatasync")
        yield effect
        effect.ended = f"{delayed()} times delayed"
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.terminate()
        await tracer.wait()


@asynccontextmanager
async def memory_filled(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Set maxmemory below what is used, so that nothing more is let in."""
    del fault
    redis = plane.redis
    try:
        await redis.config_set("maxmemory", 1)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        try:
            await redis.set("chaos", "more")
        except OutOfMemoryError as error:
            yield Effect(f"a SET was refused: {error}")
        else:
            raise NotFired("a SET was taken")
    except (RedisError, OSError) as error:
        raise NotFired(f"the server did not answer: {error}") from error
    finally:
        await _without_limit(plane)


async def _without_limit(plane: Plane) -> None:
    """A server that was started anew meanwhile has no limit either."""
    with contextlib.suppress(RedisError, OSError):
        await plane.redis.config_set("maxmemory", 0)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped


@asynccontextmanager
async def disk_filled(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Leave no room where artifacts are written."""
    del fault
    filler = plane.artifacts / _FILLER
    try:
        await asyncio.to_thread(_fill, filler)
        probe = await asyncio.to_thread(_fill, filler.with_suffix(".probe"))
        if probe != errno.ENOSPC or shutil.disk_usage(plane.artifacts).free > 0:
            raise NotFired("there is still room")
        yield Effect("a write was refused: ENOSPC")
    finally:
        filler.unlink(missing_ok=True)
        filler.with_suffix(".probe").unlink(missing_ok=True)


def _fill(path: Path) -> int:
    """Write until the disk refuses; return the error's number."""
    block = bytes(1 << 16)
    with path.open("ab", buffering=0) as file:
        while True:
            try:
                if file.write(block) == 0:
                    return errno.ENOSPC
            except OSError as error:
                return error.errno or 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Generator[bool]:
    """Have a small disk of its own at the folder; False: this user may not."""
    folder.mkdir(parents=True)
    mounting = ("mount", "-t", "tmpfs", "-o", f"size={_DISK}", "chaos", str(folder))
    is_mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    is_mounted = is_mounted and subprocess.run(mounting, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(("umount", "--lazy", str(folder)), check=False)
