"""One runner as its worker sees it: a child process and the worker's end of the pipe."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from callsheet.internal.v1.pipe_pb2 import FromRunner, ToRunner
from callsheet.runner.frames import HEADER, PipeBroken, body_length, decode, encode

_MOST_WAITING_FRAMES: Final = 64


class RunnerProcess:
    """A running child; what it sends waits, in bounds, until it is received."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Not called directly: use start."""
        self._process = process
        self._reader, self._writer = reader, writer
        self._frames: asyncio.Queue[FromRunner | PipeBroken] = asyncio.Queue(_MOST_WAITING_FRAMES)
        self._broken: PipeBroken | None = None
        self._is_doomed = False
        #: Whether it was killed from here.
        self.was_killed = False
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, command: Sequence[str], *, device: str, environment: Mapping[str, str] | None
    ) -> "RunnerProcess":
        """Start a child that runs the command; raises OSError when it cannot be started.

        Call it in a thread that lives as long as the child may: its death kills the child.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fd = theirs.fileno()
                process = await _spawned(
                    (*command, "--fd", str(fd), "--device", device), fd=fd, environment=environment
                )
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()  # a child that did start ends when it sees this
            raise
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the child can still be talked to, as far as the kernel knows."""
        return not self._is_doomed and self._broken is None and not _has_exited(self.pid)

    def send(self, frame: ToRunner) -> None:
        """Send one frame; one that the child cannot take any more is lost with it."""
        self._writer.write(encode(frame))

    async def receive(self) -> FromRunner:
        """Return the next frame; raises PipeBroken when none will come any more."""
        if self._broken is not None and self._frames.empty():
            raise self._broken
        frame = await self._frames.get()
        if isinstance(frame, PipeBroken):
            raise frame
        return frame

    def kill(self) -> None:
        """Kill the child at once; one that is gone is no error."""
        self._is_doomed = self.was_killed = True  # before the pipe tells it
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, *, within: timedelta) -> int:
        """Close the pipe, which ends the child, and return its exit code; kill it when it stays."""
        self._is_doomed = True
        self._writer.close()  # whoever receives is told by the end of the reading task
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()
        finally:
            self._reading.cancel()  # or it would wait for ever when nobody receives
            self._broken = self._broken or PipeBroken("its pipe is closed")
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(HEADER.size)
                body = await self._reader.readexactly(body_length(header))
                await self._frames.put(decode(body, FromRunner))
        except PipeBroken as error:
            broken = error
        except (OSError, asyncio.IncompleteReadError):
            broken = PipeBroken("its pipe is closed")
        self._broken = broken
        await self._frames.put(broken)


async def _spawned(
    command: Sequence[str], *, fd: int, environment: Mapping[str, str] | None
) -> asyncio.subprocess.Process:
    """Start a child; whoever is cancelled meanwhile leaves none behind."""
    spawning = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[fd],
            env=None if environment is None else dict(environment),
        )
    )
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        process = await spawning
        process.kill()
        await process.wait()
        raise


def _has_exited(pid: int) -> bool:
    """Tell whether a child of ours has ended, without waiting for the loop to hear of it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # ended, and the loop knows


def ending(exit_code: int) -> str:
    """Say how a process ended, for people."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
