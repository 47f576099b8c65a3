"""The worker's hold on its runner, with real runner processes."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
import pytest

from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_ARTIFACT_STORE,
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_OUT_OF_MEMORY,
    FAILURE_REASON_RATE_LIMITED,
    FAILURE_REASON_TIME_LIMIT,
    FailureReason,
)
from callsheet.worker.runner_host import RunnerBusy, RunnerHost
from tests.support.runners import (
    SCRIPTED,
    ProgressLog,
    environment,
    failure_reason,
    reason,
    run,
    scripted,
)

AT_ONCE: Final = timedelta(milliseconds=50)
ORPHANING: Final = (sys.executable, "-m", "tests.support.orphaning_worker")
REPOSITORY: Final = Path(__file__).parents[2]


class TestAnAttemptThatEndsByItself:
    async def test_an_output_comes_back_with_its_usage(self, host: RunnerHost) -> None:
        ended = await run(host, scripted("hello"))
        output = PingOutput()
        assert ended.output.Unpack(output)
        assert output.echo == "hello"
        assert ended.usage.run_seconds > 0
        assert ended.usage.gpu_seconds == 0  # a ping holds no device

    @pytest.mark.parametrize(
        ("echo", "expected", "message"),
        [
            ("knows why", FAILURE_REASON_RATE_LIMITED, "come back later"),
            ("runs out", FAILURE_REASON_OUT_OF_MEMORY, "MemoryError"),
            ("gives nonsense", FAILURE_REASON_INTERNAL, "not a callsheet.tasks.v1.PingOutput"),
            ("raises", FAILURE_REASON_INTERNAL, "RuntimeError: no luck with *** and more"),
        ],
    )
    async def test_a_failure_has_its_reason_and_one_bounded_line(
        self,
        host: RunnerHost,
        echo: str,
        expected: FailureReason.ValueType,
        message: str,
    ) -> None:
        ended = await run(host, scripted(echo))
        assert failure_reason(ended) == reason(expected)
        assert message in ended.failure.message
        assert len(ended.failure.message) <= 500
        assert "\n" not in ended.failure.message

    async def test_a_failed_attempt_leaves_the_runner_for_the_next(self, host: RunnerHost) -> None:
        await run(host, scripted("raises"))
        pid = host.pid
        assert (await run(host, scripted("hello"))).WhichOneof("outcome") == "output"
        assert host.pid == pid

    async def test_an_artifact_that_cannot_be_written_fails_the_attempt(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "artifacts").write_text("a file stands where the folder should")
        host = RunnerHost(
            "cpu", command=SCRIPTED, environment=environment(tmp_path), imports_ahead=False
        )
        ended = await run(host, scripted("stores"))
        await host.close()
        assert failure_reason(ended) == reason(FAILURE_REASON_ARTIFACT_STORE)
        assert ended.failure.message.startswith("an artifact could not be stored: ")

    @pytest.mark.parametrize(("ahead", "imported"), [(True, "torch"), (False, "nothing")])
    async def test_torch_is_imported_ahead_where_it_was_asked_for(
        self, tmp_path: Path, *, ahead: bool, imported: str
    ) -> None:
        host = RunnerHost(
            "cpu", command=SCRIPTED, environment=environment(tmp_path), imports_ahead=ahead
        )
        ended = await run(host, scripted("tells what it imports"))
        await host.close()
        output = PingOutput()
        assert ended.output.Unpack(output)
        assert output.echo == imported

    async def test_ctrl_c_and_sigterm_do_not_end_an_attempt(self, host: RunnerHost) -> None:
        """Both reach the whole process group; it is the worker that drains."""
        ended = await run(host, scripted("signals itself"))
        assert ended.WhichOneof("outcome") == "output"

    async def test_a_listener_that_fails_ends_no_attempt(self, host: RunnerHost) -> None:
        def fail(_: object) -> None:
            raise ValueError

        ended = await run(host, scripted("hello"), progress=fail)
        assert ended.WhichOneof("outcome") == "output"


class TestAnAttemptThatIsEnded:
    async def test_a_runner_that_ignores_a_stop_is_killed_after_the_grace_period(
        self, host: RunnerHost
    ) -> None:
        progress = ProgressLog()
        attempt = scripted("deaf")
        running = asyncio.create_task(run(host, attempt, progress=progress, grace_period=AT_ONCE))
        await progress.until(lambda seen: seen.current == 1)
        pid = host.pid
        host.stop(attempt.task_id)
        ended = await running
        assert ended.stopped
        # And another one takes the next attempt
        assert (await run(host, scripted("hello"))).WhichOneof("outcome") == "output"
        assert host.pid != pid

    async def test_an_output_that_is_ready_wins_over_a_stop(self, host: RunnerHost) -> None:
        progress = ProgressLog()
        attempt = scripted("finishes anyway")
        running = asyncio.create_task(run(host, attempt, progress=progress))
        await progress.until(lambda seen: seen.current == 1)
        host.stop(attempt.task_id)
        ended = await running
        assert ended.WhichOneof("outcome") == "output"

    async def test_a_stop_before_the_runner_is_ready_needs_no_runner(self, tmp_path: Path) -> None:
        never_ready = (sys.executable, "-c", "import sys; sys.stdin.read(); input()")
        host = RunnerHost("cpu", command=never_ready, environment=environment(tmp_path))
        attempt = scripted("hello")
        running = asyncio.create_task(run(host, attempt))
        await asyncio.sleep(0)
        assert host.stop(attempt.task_id)
        assert (await running).stopped
        await host.close()

    async def test_only_the_running_task_can_be_stopped(self, host: RunnerHost) -> None:
        assert not host.stop("another")
        progress = ProgressLog()
        attempt = scripted("polite")
        running = asyncio.create_task(run(host, attempt, progress=progress))
        await progress.until(lambda seen: seen.current == 1)
        assert host.task_id == attempt.task_id
        assert not host.stop("another")
        assert host.stop(attempt.task_id)
        assert (await running).stopped
        assert host.task_id is None

    @pytest.mark.parametrize("echo", ["polite", "deaf"])
    async def test_an_attempt_past_its_time_limit_fails(self, host: RunnerHost, echo: str) -> None:
        await host.start()
        ended = await run(host, scripted(echo), time_limit=AT_ONCE, grace_period=20 * AT_ONCE)
        assert failure_reason(ended) == reason(FAILURE_REASON_TIME_LIMIT)
        assert ended.failure.message == "the attempt ran longer than its limit of 0.05 s"
        assert ended.usage.run_seconds > 0

    async def test_an_attempt_that_holds_too_much_memory_is_killed(self, host: RunnerHost) -> None:
        ended = await run(host, scripted("greedy"), memory_limit_bytes=480 * 2**20)
        assert failure_reason(ended) == reason(FAILURE_REASON_OUT_OF_MEMORY)
        assert "more than its limit of 480 MiB" in ended.failure.message
        assert ended.usage.peak_rss_bytes > 480 * 2**20

    async def test_a_second_attempt_is_refused_while_one_runs(self, host: RunnerHost) -> None:
        progress = ProgressLog()
        attempt = scripted("polite")
        running = asyncio.create_task(run(host, attempt, progress=progress))
        await progress.until(lambda seen: seen.current == 1)
        with pytest.raises(RunnerBusy):
            await run(host, scripted("hello"))
        host.stop(attempt.task_id)
        await running

    async def test_an_attempt_nobody_waits_for_any_more_is_killed(self, host: RunnerHost) -> None:
        progress = ProgressLog()
        running = asyncio.create_task(run(host, scripted("deaf"), progress=progress))
        await progress.until(lambda seen: seen.current == 1)
        pid = host.pid
        assert pid is not None
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await run(host, scripted("hello"))).WhichOneof("outcome") == "output"
        assert not psutil.pid_exists(pid)
