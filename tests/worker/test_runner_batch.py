"""Attempts that a runner runs together end each by itself."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from callsheet.internal.v1.pipe_pb2 import AttemptEnded, RunAttempt
from callsheet.worker.runner_batch import KilledForAnother, RunnerBatch
from callsheet.worker.runner_host import RunnerBusy, RunnerHost
from tests.support.runners import LONG, ProgressLog, failure_reason, scripted

A_MOMENT = timedelta(milliseconds=200)


async def run_of(
    batch: RunnerBatch,
    attempt: RunAttempt,
    *,
    progress: ProgressLog | None = None,
    time_limit: timedelta = LONG,
    grace_period: timedelta = LONG,
) -> AttemptEnded:
    """Run one attempt of a batch with limits that nothing reaches unless the test says so."""
    return await batch.run(
        attempt,
        time_limit=time_limit,
        grace_period=grace_period,
        on_progress=progress or ProgressLog(),
    )


def ids(attempts: Sequence[RunAttempt]) -> list[str]:
    return [attempt.task_id for attempt in attempts]


async def test_each_has_its_own_outcome(host: RunnerHost) -> None:
    attempts = [scripted("hello"), scripted("knows why"), scripted("raises")]
    with host.together(ids(attempts)) as batch:
        ended = await asyncio.gather(*(run_of(batch, attempt) for attempt in attempts))
    assert [each.task_id for each in ended] == ids(attempts)
    assert [each.WhichOneof("outcome") for each in ended] == ["output", "failure", "failure"]
    assert failure_reason(ended[1]) == "FAILURE_REASON_RATE_LIMITED"
    # And the runner is there for the next one
    pid = host.pid
    with host.together(ids(attempts[:1])) as batch:
        again = await run_of(batch, attempts[0])
    assert again.WhichOneof("outcome") == "output"
    assert host.pid == pid


async def test_one_that_is_stopped_leaves_the_others_running(host: RunnerHost) -> None:
    attempts, logs = [scripted("polite"), scripted("polite")], [ProgressLog(), ProgressLog()]
    with host.together(ids(attempts)) as batch:
        running = [
            asyncio.create_task(run_of(batch, attempt, progress=log))
            for attempt, log in zip(attempts, logs, strict=True)
        ]
        for log in logs:
            await log.until(lambda seen: seen.current == 1)
        assert batch.stop(attempts[0].task_id)
        assert (await running[0]).stopped
        assert not running[1].done()
        assert batch.stop(attempts[1].task_id)
        assert (await running[1]).stopped
        assert not batch.stop("another")


async def test_one_that_must_be_killed_takes_no_blame_to_the_others(host: RunnerHost) -> None:
    deaf, polite = scripted("deaf"), scripted("polite")
    with host.together(ids([deaf, polite])) as batch:
        killed = run_of(batch, deaf, time_limit=A_MOMENT, grace_period=A_MOMENT)
        ended = await asyncio.gather(killed, run_of(batch, polite), return_exceptions=True)
    assert isinstance(ended[0], AttemptEnded)
    assert failure_reason(ended[0]) == "FAILURE_REASON_TIME_LIMIT"
    assert isinstance(ended[1], KilledForAnother)


async def test_a_runner_that_dies_is_lost_to_all_of_them(host: RunnerHost) -> None:
    attempts = [scripted("exits"), scripted("polite")]
    with host.together(ids(attempts)) as batch:
        ended = await asyncio.gather(*(run_of(batch, attempt) for attempt in attempts))
    assert [failure_reason(each) for each in ended] == ["FAILURE_REASON_WORKER_LOST"] * 2


async def test_whoever_does_not_come_is_not_waited_for(host: RunnerHost) -> None:
    attempts = [scripted("hello"), scripted("hello")]
    with host.together(ids(attempts)) as batch:
        running = asyncio.create_task(run_of(batch, attempts[0]))
        batch.leave(attempts[1].task_id)
        assert (await running).WhichOneof("outcome") == "output"


async def test_a_runner_that_has_a_batch_takes_nothing_else(host: RunnerHost) -> None:
    with host.together(["one"]):
        with pytest.raises(RunnerBusy), host.together(["another"]):
            pass
        with pytest.raises(RunnerBusy):
            await host.run(
                scripted("hello"),
                time_limit=LONG,
                grace_period=LONG,
                on_progress=ProgressLog(),
            )
