"""One supervised process: started, seen ready, started again when it ends, stopped for good."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Final

from callsheet.embedded.backoff import Backoff
from callsheet.embedded.log_file import cap
from callsheet.embedded.parentage import ends_with_parent
from callsheet.runtime.lifecycle import READY_LINE, READY_VARIABLE

_PROBE_PAUSE: Final = timedelta(milliseconds=50)
#: What the kernel gets to end a killed process.
_KILL_TIMEOUT: Final = timedelta(seconds=10)
#: The exit code of a program that could not be started, as a shell has it.
_EXIT_NOT_STARTED: Final = 127


class ChildState(StrEnum):
    """Where a supervised process is in its life."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    STOPPED = "stopped"


class ChildFact(StrEnum):
    """What happened to a supervised process."""

    STARTED = "started"
    BECAME_READY = "became_ready"
    EXITED = "exited"
    CRASH_LOOPED = "crash_looped"
    KILLED = "killed"
    STOPPED = "stopped"


_ENDINGS: Final = frozenset({ChildFact.EXITED, ChildFact.CRASH_LOOPED, ChildFact.STOPPED})


@dataclass(frozen=True, kw_only=True)
class ChildPlan:
    """How to run one process.

    It is ready when it has announced so (`callsheet.runtime.lifecycle.announce_ready`), or when
    *probe* answers true. What it writes goes to the file *log*. It may finish what it has for
    *drain_timeout* after SIGTERM, and is killed then, with all processes of its group.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    drain_timeout: timedelta
    inherited: tuple[int, ...] = ()
    probe: Callable[[], Awaitable[bool]] | None = None


@dataclass(frozen=True, kw_only=True)
class ChildReport:
    """One fact of one process; *exit_code* is negative for a signal, *wait* precedes a restart."""

    name: str
    fact: ChildFact
    pid: int | None = None
    exit_code: int | None = None
    wait: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class ChildStatus:
    """How a process is now; *restarts* counts how often it had to be started again."""

    name: str
    state: ChildState
    pid: int | None
    restarts: int
    exit_code: int | None


class Child:
    """Keeps one process running until it is told to stop."""

    def __init__(
        self,
        plan: ChildPlan,
        *,
        backoff: Backoff,
        chance: Callable[[], float],
        report: Callable[[ChildReport], None],
    ) -> None:
        self.plan = plan
        self._backoff = backoff
        self._chance = chance
        self._report = report
        self._state = ChildState.STARTING
        self._process: asyncio.subprocess.Process | None = None
        self._last_pid: int | None = None
        self._exit_code: int | None = None
        self._starts = 0
        self._ready = asyncio.Event()
        self._crash_looped = asyncio.Event()
        self._stopping = asyncio.Event()
        self._supervision = asyncio.create_task(self._supervise(), name=f"child {plan.name}")

    @property
    def status(self) -> ChildStatus:
        """How the process is now."""
        return ChildStatus(
            name=self.plan.name,
            state=self._state,
            pid=self._process.pid if self._process is not None else None,
            restarts=max(0, self._starts - 1),
            exit_code=self._exit_code,
        )

    @property
    def crash_loops(self) -> bool:
        """Whether the process ended so often in a row that it is not expected to stay."""
        return self._crash_looped.is_set()

    async def wait_ready(self, *, timeout: timedelta) -> bool:
        """Return whether the process became ready in time; False at once when it crash loops."""
        waits = {
            asyncio.ensure_future(self._ready.wait()),
            asyncio.ensure_future(self._crash_looped.wait()),
        }
        await asyncio.wait(
            waits, timeout=timeout.total_seconds(), return_when=asyncio.FIRST_COMPLETED
        )
        for each in waits:
            each.cancel()
        return self._ready.is_set()

    async def stop(self) -> None:
        """Stop the process for good: SIGTERM, the drain timeout, then SIGKILL to its group."""
        self._stopping.set()
        self._terminate()
        drain = self.plan.drain_timeout.total_seconds()
        if not (await asyncio.wait({self._supervision}, timeout=drain))[0]:
            self._report(self._fact(ChildFact.KILLED))
            if self._process is not None:
                _kill_group(self._process.pid)
            await asyncio.wait({self._supervision}, timeout=_KILL_TIMEOUT.total_seconds())
        self._supervision.cancel()
        self._state = ChildState.STOPPED
        self._report(self._fact(ChildFact.STOPPED))

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            start_time = loop.time()
            await self._run_once()
            if self._stopping.is_set():
                return
            if loop.time() - start_time >= self._backoff.steady.total_seconds():
                failures = 0
                self._crash_looped.clear()
            failures += 1
            await self._wait_before_restart(failures)

    async def _wait_before_restart(self, failures: int) -> None:
        wait = self._backoff.wait(failures, chance=self._chance())
        looping = failures >= self._backoff.crash_loop
        fact = ChildFact.CRASH_LOOPED if looping else ChildFact.EXITED
        self._state = ChildState.WAITING
        self._report(self._fact(fact, wait=wait))
        if looping:
            self._crash_looped.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait.total_seconds())

    async def _run_once(self) -> None:
        self._state = ChildState.STARTING
        self._starts += 1
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as announcements:
            try:
                self._process = await self._launch(writing)
            except OSError:
                # No memory, no process ids, or no such program: a failure like an early exit.
                self._exit_code = _EXIT_NOT_STARTED
                return
            finally:
                os.close(writing)
            await self._see_through(self._process, announcements)
        self._process = None

    async def _see_through(
        self, process: asyncio.subprocess.Process, announcements: FileIO
    ) -> None:
        self._last_pid = process.pid
        self._report(self._fact(ChildFact.STARTED))
        if self._stopping.is_set():  # while it was being started
            self._terminate()
        watching = asyncio.create_task(self._watch_readiness(announcements))
        self._exit_code = await process.wait()
        watching.cancel()
        await asyncio.wait({watching})
        self._ready.clear()
        # What it leaves behind would hold its ports, its device and our files.
        _kill_group(process.pid)

    def _terminate(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _launch(self, writing: int) -> asyncio.subprocess.Process:
        cap(self.plan.log)
        with self.plan.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.plan.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.plan.environment, READY_VARIABLE: str(writing)},
                pass_fds=(writing, *self.plan.inherited),
                start_new_session=True,  # its own group: Ctrl-C is for us, and we stop in order
                preexec_fn=ends_with_parent(),
            )

    async def _watch_readiness(self, announcements: FileIO) -> None:
        reader = asyncio.StreamReader(limit=1024)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), announcements
        )
        waits = [asyncio.create_task(_announced(reader))]
        if self.plan.probe is not None:
            waits.append(asyncio.create_task(_probed(self.plan.probe)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            transport.close()
        self._state = ChildState.READY
        self._ready.set()
        self._report(self._fact(ChildFact.BECAME_READY))

    def _fact(self, fact: ChildFact, *, wait: timedelta | None = None) -> ChildReport:
        return ChildReport(
            name=self.plan.name,
            fact=fact,
            pid=self._last_pid,
            exit_code=self._exit_code if fact in _ENDINGS else None,
            wait=wait,
        )


async def _announced(reader: asyncio.StreamReader) -> None:
    """Return when the process has announced itself; never, when it closes the pipe silently."""
    if await reader.readline() != READY_LINE:
        await asyncio.get_running_loop().create_future()


async def _probed(probe: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await probe():
            return
        await asyncio.sleep(_PROBE_PAUSE.total_seconds())


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
