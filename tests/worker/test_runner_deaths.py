"""Runners that die, that never live, and that must not outlive their worker."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import RunAttempt, ToRunner
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_UNAVAILABLE,
    FAILURE_REASON_WORKER_LOST,
)
from callsheet.worker.runner_host import RUNNER_COMMAND, RunnerHost
from callsheet.worker.runner_process import RunnerProcess
from tests.support.runners import (
    LONG,
    PROJECT,
    SCRIPTED,
    ProgressLog,
    environment,
    failure_reason,
    long_image,
    reason,
    run,
    scripted,
)

AT_ONCE: Final = timedelta(milliseconds=50)
ORPHANING: Final = (sys.executable, "-m", "tests.support.orphaning_worker")
REPOSITORY: Final = Path(__file__).parents[2]


class TestARunnerThatDies:
    async def test_a_runner_that_leaves_says_with_which_code(self, host: RunnerHost) -> None:
        ended = await run(host, scripted("exits"))
        assert failure_reason(ended) == reason(FAILURE_REASON_WORKER_LOST)
        assert "ended with exit code 3" in ended.failure.message

    async def test_an_idle_runner_that_died_is_replaced(self, host: RunnerHost) -> None:
        await run(host, scripted("hello"))
        pid = host.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        _await_exit(pid)
        ended = await run(host, scripted("hello"))
        assert ended.WhichOneof("outcome") == "output"
        assert host.pid != pid

    async def test_a_kill_between_upload_and_commit_leaves_an_artifact_nobody_refers_to(
        self, host: RunnerHost, tmp_path: Path
    ) -> None:
        attempt = scripted("stores and dies")
        ended = await run(host, attempt)
        assert failure_reason(ended) == reason(FAILURE_REASON_WORKER_LOST)
        store = ArtifactStore((tmp_path / "artifacts").as_uri())
        assert len(store.list_keys(PROJECT, attempt.task_id)) == 1

    async def test_a_runner_that_dies_at_every_start_makes_the_attempt_unavailable(
        self, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        dying = (
            sys.executable,
            "-c",
            f"open({str(started)!r}, 'a').write('x'); raise SystemExit(4)",
        )
        host = RunnerHost("cpu", command=dying, first_backoff=timedelta(milliseconds=1))
        ended = await run(host, scripted("hello"))
        assert failure_reason(ended) == reason(FAILURE_REASON_UNAVAILABLE)
        assert "did not start 5 times in a row: it ended with exit code 4" in ended.failure.message
        assert started.read_text() == "xxxxx"
        # The next attempt gets one more start, not five
        await run(host, scripted("hello"))
        assert started.read_text() == "xxxxxx"
        await host.close()

    async def test_refused_settings_are_not_tried_again(self, tmp_path: Path) -> None:
        refused = environment(tmp_path, CALLSHEET_LEASE_SECONDS="soon")
        host = RunnerHost("cpu", environment=refused, first_backoff=LONG)
        ended = await run(host, scripted("hello"))
        await host.close()
        assert failure_reason(ended) == reason(FAILURE_REASON_UNAVAILABLE)
        assert ended.failure.message == "the runner of cpu refused its settings"

    async def test_a_runner_that_never_gets_ready_is_killed(self, tmp_path: Path) -> None:
        host = RunnerHost(
            "cpu",
            command=(sys.executable, "-c", "import threading; threading.Event().wait(90)"),
            ready_within=AT_ONCE,
            first_backoff=timedelta(milliseconds=1),
        )
        ended = await run(host, scripted("hello"))
        await host.close()
        assert failure_reason(ended) == reason(FAILURE_REASON_UNAVAILABLE)
        assert "it was not ready within 0.05 s" in ended.failure.message

    async def test_a_command_that_does_not_exist_makes_the_attempt_unavailable(self) -> None:
        host = RunnerHost(
            "cpu", command=("no-such-program",), first_backoff=timedelta(milliseconds=1)
        )
        ended = await run(host, scripted("hello"))
        assert failure_reason(ended) == reason(FAILURE_REASON_UNAVAILABLE)
        assert "it cannot be started: No such file or directory" in ended.failure.message

    async def test_a_closed_host_runs_nothing_more(self, host: RunnerHost) -> None:
        progress = ProgressLog()
        running = asyncio.create_task(run(host, scripted("deaf"), progress=progress))
        await progress.until(lambda seen: seen.current == 1)
        await host.close()
        assert failure_reason(await running) == reason(FAILURE_REASON_WORKER_LOST)
        ended = await run(host, scripted("hello"))
        assert failure_reason(ended) == reason(FAILURE_REASON_UNAVAILABLE)


class TestALifeBoundToTheWorkers:
    def test_a_runner_in_inference_dies_with_its_killed_worker(
        self, tmp_path: Path, cache_dir: Path
    ) -> None:
        # Given a worker whose runner is in mid-inference
        with subprocess.Popen(
            ORPHANING,
            cwd=REPOSITORY,
            env=environment(tmp_path, cache_dir=cache_dir),
            stdout=subprocess.PIPE,
        ) as worker:
            assert worker.stdout is not None
            runner = int(worker.stdout.readline())
            watched = os.pidfd_open(runner)
            # When the worker is killed
            worker.kill()
            # Then the runner is gone
            gone, _, _ = select.select([watched], [], [], 5)
            os.close(watched)
        assert gone

    async def test_a_runner_in_inference_ends_when_its_pipe_does(
        self, tmp_path: Path, cache_dir: Path
    ) -> None:
        process = await RunnerProcess.start(
            RUNNER_COMMAND, device="cpu", environment=environment(tmp_path, cache_dir=cache_dir)
        )
        process.send(ToRunner(run=long_image()))
        while (await process.receive()).progress.progress.current == 0:
            pass
        # It left by itself: with exit code 0, not by a signal
        assert await process.end(within=LONG) == 0

    async def test_a_runner_that_is_sent_nonsense_leaves(
        self, tmp_path: Path, cache_dir: Path
    ) -> None:
        """Two attempts at once are against the protocol; a runner cannot guess which is meant."""
        process = await RunnerProcess.start(
            (*SCRIPTED, "--import-on-demand"),
            device="cpu",
            environment=environment(tmp_path, cache_dir=cache_dir),
        )
        for attempt in (scripted("deaf"), RunAttempt(task_id="another")):
            process.send(ToRunner(run=attempt))
        assert await process.end(within=LONG) == 0


def _await_exit(pid: int) -> None:
    watched = os.pidfd_open(pid)
    gone, _, _ = select.select([watched], [], [], LONG.total_seconds())
    os.close(watched)
    assert gone
