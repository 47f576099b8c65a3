"""Real processes under the supervisor: kept running, told apart, stopped in order."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.embedded.backoff import Backoff
from callsheet.embedded.child import ChildFact, ChildPlan, ChildReport, ChildState
from callsheet.embedded.supervisor import Supervisor

SECONDS = 60
QUICK = Backoff(first=timedelta(milliseconds=1), longest=timedelta(milliseconds=4))

READY = """
import os, signal, sys, threading
os.write(int(os.environ["CALLSHEET_READY_FD"]), b"READY\\n")
"""
WAITS = READY + "signal.pause()"
LEAVES_A_NOTE = (
    READY
    + """
def note(*_):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(os.environ["NAME"] + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
signal.pause()
"""
)
IGNORES_SIGTERM = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
os.write(int(os.environ["CALLSHEET_READY_FD"]), b"READY\\n")
while True:
    signal.pause()
"""


class Reports:
    """Everything that was reported, to be awaited fact by fact."""

    def __init__(self) -> None:
        self.all: list[ChildReport] = []
        self._arrivals: asyncio.Queue[ChildReport] = asyncio.Queue()

    def __call__(self, report: ChildReport) -> None:
        self.all.append(report)
        self._arrivals.put_nowait(report)

    async def next(self, fact: ChildFact) -> ChildReport:
        """Return the next report of the fact; others before it are passed over."""
        async with asyncio.timeout(SECONDS):
            while (report := await self._arrivals.get()).fact is not fact:
                pass
        return report


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def supervisor(reports: Reports) -> AsyncIterator[Supervisor]:
    """A supervisor that restarts quickly and never by chance."""
    one = Supervisor(report=reports, backoff=QUICK, chance=lambda: 1.0)
    yield one
    await one.stop([])


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., ChildPlan]:
    """How to run a Python program as a child."""

    def make(program: str, *, name: str = "child", drain: float = SECONDS) -> ChildPlan:
        return ChildPlan(
            name=name,
            command=(sys.executable, "-c", program),
            environment={**os.environ, "NOTES": str(tmp_path / "notes"), "NAME": name},
            log=tmp_path / f"{name}.log",
            drain_timeout=timedelta(seconds=drain),
        )

    return make


Plan = Callable[..., ChildPlan]


async def test_a_child_is_ready_when_it_says_so(
    supervisor: Supervisor, reports: Reports, plan: Plan
) -> None:
    child = supervisor.start(plan(WAITS))
    assert await child.wait_ready(timeout=timedelta(seconds=SECONDS))
    (status,) = supervisor.statuses
    assert (status.name, status.state, status.restarts) == ("child", ChildState.READY, 0)
    assert status.pid is not None
    assert [report.fact for report in reports.all] == [ChildFact.STARTED, ChildFact.BECAME_READY]


async def test_a_child_that_cannot_say_so_is_asked(
    supervisor: Supervisor, plan: Plan, tmp_path: Path
) -> None:
    async def probe() -> bool:
        return (tmp_path / "listens").exists()

    silent = plan(
        f"import pathlib, signal; pathlib.Path({str(tmp_path / 'listens')!r}).touch();"
        "signal.pause()"
    )
    child = supervisor.start(
        ChildPlan(
            name="silent",
            command=silent.command,
            environment=silent.environment,
            log=silent.log,
            drain_timeout=silent.drain_timeout,
            probe=probe,
        )
    )
    assert await child.wait_ready(timeout=timedelta(seconds=SECONDS))


async def test_a_child_that_says_nothing_is_not_ready(supervisor: Supervisor, plan: Plan) -> None:
    child = supervisor.start(plan("import signal; signal.pause()"))
    assert not await child.wait_ready(timeout=timedelta(milliseconds=1))
    assert not child.crash_loops


async def test_a_child_that_was_killed_is_started_again(
    supervisor: Supervisor, reports: Reports, plan: Plan
) -> None:
    supervisor.start(plan(WAITS))
    first = (await reports.next(ChildFact.BECAME_READY)).pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    ended = await reports.next(ChildFact.EXITED)
    assert (ended.pid, ended.exit_code) == (first, -signal.SIGKILL)
    again = await reports.next(ChildFact.BECAME_READY)
    assert again.pid != first
    assert supervisor.statuses[0].restarts == 1


async def test_a_crash_loop_is_told_of_and_still_tried(
    supervisor: Supervisor, reports: Reports, plan: Plan
) -> None:
    child = supervisor.start(plan("raise SystemExit(7)"))
    looped = await reports.next(ChildFact.CRASH_LOOPED)
    assert looped.exit_code == 7
    assert child.crash_loops
    assert not await child.wait_ready(timeout=timedelta(seconds=SECONDS))
    await reports.next(ChildFact.STARTED)
    waits = [report.wait for report in reports.all if report.fact is ChildFact.EXITED]
    assert waits == [timedelta(milliseconds=length) for length in (1, 2, 4, 4)]


async def test_a_program_that_is_not_there_crash_loops(
    supervisor: Supervisor, reports: Reports, plan: Plan, tmp_path: Path
) -> None:
    missing = ChildPlan(
        name="missing",
        command=(str(tmp_path / "none"),),
        environment={},
        log=tmp_path / "missing.log",
        drain_timeout=timedelta(seconds=SECONDS),
    )
    supervisor.start(missing)
    assert (await reports.next(ChildFact.CRASH_LOOPED)).exit_code == 127


async def test_a_steady_run_makes_earlier_failures_forgotten(reports: Reports, plan: Plan) -> None:
    always_steady = Backoff(first=timedelta(milliseconds=1), steady=timedelta(0), crash_loop=2)
    supervisor = Supervisor(report=reports, backoff=always_steady, chance=lambda: 1.0)
    supervisor.start(plan("pass"))
    for _ in range(4):
        assert (await reports.next(ChildFact.EXITED)).wait == timedelta(milliseconds=1)
    await supervisor.stop([])


async def test_children_stop_one_after_the_other_in_order(
    supervisor: Supervisor, reports: Reports, plan: Plan, tmp_path: Path
) -> None:
    names = ["control", "worker", "sidecar", "unnamed"]
    for name in names:
        child = supervisor.start(plan(LEAVES_A_NOTE, name=name))
        assert await child.wait_ready(timeout=timedelta(seconds=SECONDS))
    await supervisor.stop(["worker", "sidecar", "absent", "control"])
    assert (tmp_path / "notes").read_text().split() == ["worker", "sidecar", "control", "unnamed"]
    stopped = [report for report in reports.all if report.fact is ChildFact.STOPPED]
    assert [report.exit_code for report in stopped] == [0, 0, 0, 0]
    assert supervisor.statuses == ()


async def test_a_child_that_does_not_drain_is_killed_with_its_own_children(
    supervisor: Supervisor, reports: Reports, plan: Plan, tmp_path: Path
) -> None:
    child = supervisor.start(plan(IGNORES_SIGTERM, drain=0.01))
    assert await child.wait_ready(timeout=timedelta(seconds=SECONDS))
    grandchild = os.pidfd_open(int((tmp_path / "child.log").read_text()))
    await supervisor.stop([])
    assert (await reports.next(ChildFact.KILLED)).name == "child"
    assert (await reports.next(ChildFact.STOPPED)).exit_code == -signal.SIGKILL
    assert ends(grandchild)


async def test_what_a_killed_child_leaves_behind_is_killed(
    supervisor: Supervisor, reports: Reports, plan: Plan, tmp_path: Path
) -> None:
    supervisor.start(plan(IGNORES_SIGTERM))
    first = (await reports.next(ChildFact.BECAME_READY)).pid
    assert first is not None
    grandchild = os.pidfd_open(int((tmp_path / "child.log").read_text()))
    os.kill(first, signal.SIGKILL)
    await reports.next(ChildFact.EXITED)
    assert ends(grandchild)


async def test_a_child_that_is_just_being_started_is_stopped_too(
    supervisor: Supervisor, reports: Reports, plan: Plan
) -> None:
    supervisor.start(plan(WAITS))
    async with asyncio.timeout(SECONDS):
        await supervisor.stop([])
    assert [report for report in reports.all if report.fact is ChildFact.KILLED] == []


async def test_a_child_that_waits_for_its_next_start_stops_at_once(
    reports: Reports, plan: Plan
) -> None:
    patient = Backoff(first=timedelta(hours=1), longest=timedelta(hours=1))
    supervisor = Supervisor(report=reports, backoff=patient)
    supervisor.start(plan("pass"))
    assert (await reports.next(ChildFact.EXITED)).wait is not None
    async with asyncio.timeout(SECONDS):
        await supervisor.stop([])


async def test_ctrl_c_of_the_terminal_does_not_reach_children(
    supervisor: Supervisor, reports: Reports, plan: Plan
) -> None:
    supervisor.start(plan(WAITS))
    child = (await reports.next(ChildFact.BECAME_READY)).pid
    assert child is not None
    assert os.getpgid(child) == child


async def test_what_a_child_writes_is_in_its_log(
    supervisor: Supervisor, reports: Reports, plan: Plan, tmp_path: Path
) -> None:
    program = "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n')"
    supervisor.start(plan(program, name="talker"))
    await reports.next(ChildFact.EXITED)
    assert (tmp_path / "talker.log").read_text().splitlines()[:2] == ["out", "err"]


async def test_two_children_of_one_name_are_refused(supervisor: Supervisor, plan: Plan) -> None:
    supervisor.start(plan(WAITS))
    with pytest.raises(ValueError, match="child is supervised already"):
        supervisor.start(plan(WAITS))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_children_end_with_a_supervisor_that_is_killed(loop: str, tmp_path: Path) -> None:
    program = f"""
import os, sys, {loop}
from datetime import timedelta
from pathlib import Path
import asyncio
from callsheet.embedded.child import ChildPlan
from callsheet.embedded.supervisor import Supervisor

async def main():
    supervisor = Supervisor(report=lambda report: None)
    child = supervisor.start(ChildPlan(name="x", command=(sys.executable, "-c", {WAITS!r}),
        environment=os.environ, log=Path({str(tmp_path / "x.log")!r}),
        drain_timeout=timedelta(seconds=1)))
    await child.wait_ready(timeout=timedelta(seconds=60))
    print(child.status.pid, flush=True)
    await asyncio.Event().wait()

{loop}.run(main())
"""
    supervising = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    assert supervising.stdout is not None
    with supervising.stdout:
        child = os.pidfd_open(int(supervising.stdout.readline()))
        supervising.kill()
        supervising.wait(SECONDS)
    assert ends(child)


def test_waits_double_up_to_the_longest_and_vary_by_half() -> None:
    backoff = Backoff(first=timedelta(seconds=1), longest=timedelta(seconds=30))
    full = [backoff.wait(failures, chance=1.0).total_seconds() for failures in range(1, 8)]
    assert full == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.wait(10**9, chance=0.0) == timedelta(seconds=15)


def ends(process: int) -> bool:
    """Whether the process of the descriptor ends in time."""
    try:
        return bool(select.select([process], [], [], SECONDS)[0])
    finally:
        os.close(process)
