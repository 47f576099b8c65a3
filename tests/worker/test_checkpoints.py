"""What a runner saves of an attempt's work is noted with its task, the newest of it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from callsheet.broker.slots import Slots
from callsheet.internal.v1.pipe_pb2 import (
    AttemptCheckpoint,
    AttemptEnded,
    FromRunner,
    RunAttempt,
    ToRunner,
)
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.model import Checkpoint, Progress, Task
from callsheet.v1 import task_pb2
from callsheet.worker.attempt_watch import AttemptWatch
from callsheet.worker.checkpoints import CheckpointRecorder
from callsheet.worker.runner_process import RunnerProcess
from callsheet.worker.running import Running
from tests.support.ledgers import OWNER, Cell, memory_cell, ping
from tests.support.runners import LONG
from tests.support.work import started

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def behind(step: int) -> task_pb2.Checkpoint:
    return task_pb2.Checkpoint(key=f"k{step}", step=step, of=8)


class Slow(Attempts):
    """A ledger that answers when it is let."""

    def __init__(self, attempts: Attempts) -> None:
        self.__dict__ |= vars(attempts)
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.is_away = False

    async def save_checkpoint(self, task: Task, *, attempt: int, checkpoint: Checkpoint) -> Task:
        """Wait, and then do it."""
        self.asked.set()
        await self.go.wait()
        if self.is_away:
            raise LedgerUnavailable("away")
        return await super().save_checkpoint(task, attempt=attempt, checkpoint=checkpoint)


class Desk:
    """A running attempt, and what records its checkpoints."""

    def __init__(self, plane: Cell, attempts: Attempts, task: Task) -> None:
        self.plane = plane
        self.attempts = Slow(attempts)
        kind = plane.catalog[task.submission.task_type]
        self.running = Running(task, kind, Slots(1))
        self.moved: list[Running] = []
        self.recorder = CheckpointRecorder(self.attempts, self.running, moved_on=self.moved.append)

    async def task(self) -> Task:
        return await self.plane.writer.read(self.running.task.id)


async def desk() -> Desk:
    plane = memory_cell()
    task = await plane.ledger.submit(OWNER, ping())
    attempts, task = await started(plane, task.id)
    return Desk(plane, attempts, task)


async def test_one_that_a_newer_one_overtakes_is_never_recorded() -> None:
    one = await desk()
    one.recorder.saved(behind(1))
    await one.attempts.asked.wait()
    one.recorder.saved(behind(2))
    one.recorder.saved(behind(3))
    one.attempts.go.set()
    await one.recorder.close(drop=False)
    task = await one.task()
    assert task.checkpoint == Checkpoint("k3", "", 0, 3, 8)
    assert task.sequence == 4  # submitted, started, saved, saved
    # What is told of the attempt from now on comes after that
    assert one.running.task == task
    await one.attempts.keep_progress(task, attempt=1, progress=Progress(3, 8, "", NOON))


async def test_of_work_that_is_done_what_was_taken_is_forgotten() -> None:
    one = await desk()
    one.recorder.saved(behind(1))
    await one.attempts.asked.wait()
    one.recorder.saved(behind(2))
    await one.recorder.close(drop=True)
    one.attempts.go.set()
    assert (await one.task()).checkpoint is None


async def test_an_attempt_that_lost_its_lease_is_looked_at_again() -> None:
    one = await desk()
    task = await one.task()
    await one.attempts.hand_back(task, attempt=1, reason="")
    one.attempts.go.set()
    one.recorder.saved(behind(1))
    await one.recorder.close(drop=False)
    assert one.moved == [one.running]


async def test_a_ledger_that_is_away_costs_a_checkpoint_and_no_more() -> None:
    one = await desk()
    one.attempts.is_away = True
    one.attempts.go.set()
    one.recorder.saved(behind(1))
    await one.recorder.close(drop=False)
    assert (one.moved, (await one.task()).checkpoint) == ([], None)


class Said:
    """A runner that says what the test wants, and nothing more."""

    pid = 0

    def __init__(self, frames: Sequence[FromRunner]) -> None:
        self.frames = list(frames)

    def send(self, frame: ToRunner) -> None:
        """Take it."""

    async def receive(self) -> FromRunner:
        """Say the next thing."""
        return self.frames.pop(0)


async def test_only_what_is_said_of_the_attempt_itself_is_taken() -> None:
    attempt = RunAttempt(task_id="t", attempt=2)
    taken: list[int] = []
    watch = AttemptWatch(
        attempt,
        time_limit=LONG,
        grace_period=timedelta(0),
        memory_limit_bytes=None,
        on_progress=lambda _: None,
        on_checkpoint=lambda checkpoint: taken.append(checkpoint.step),
    )
    told = [("t", 1, 1), ("another", 2, 2), ("t", 2, 3)]
    frames = [
        FromRunner(
            checkpoint=AttemptCheckpoint(task_id=task_id, attempt=number, checkpoint=behind(step))
        )
        for task_id, number, step in told
    ]
    frames.append(FromRunner(ended=AttemptEnded(task_id="t", stopped=True)))
    watch.stop_asked.set()
    await watch.until_end(cast("RunnerProcess", Said(frames)))
    assert taken == [3]
