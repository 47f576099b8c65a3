"""The worker's hold on a runner: one child for one device, started when needed, killed when due."""

import asyncio
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.internal.v1.pipe_pb2 import AttemptEnded, DeviceReport, RunAttempt
from callsheet.runner.frames import PipeBroken
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED
from callsheet.v1.task_pb2 import FAILURE_REASON_UNAVAILABLE
from callsheet.worker.attempt_watch import AttemptWatch, OnCheckpoint, OnProgress
from callsheet.worker.runner_batch import RunnerBatch
from callsheet.worker.runner_process import RunnerProcess, ending

RUNNER_COMMAND: Final = (sys.executable, "-m", "callsheet.runner")
MOST_STARTS: Final = 5
#: A runner that only imports its libraries.
READY_WITHIN: Final = timedelta(seconds=60)

_ON_DEMAND: Final = "--import-on-demand"
_FIRST_BACKOFF: Final = timedelta(milliseconds=200)
_ENDED_WITHIN: Final = timedelta(seconds=2)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class RunnerBusy(Exception):
    """A runner runs one attempt at a time, and it runs one."""


class RunnerUnavailable(Exception):
    """No runner can be started; the message says why, for people."""


class _StartFailed(Exception):
    """One runner was started and did not become ready."""

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class RunnerHost:
    """Keeps one runner for a device and runs one attempt after the other in it.

    Its loop must run in a thread that lives as long as the worker does: the kernel kills a runner
    when the thread that started it ends.
    """

    def __init__(
        self,
        device: str,
        *,
        command: Sequence[str] = RUNNER_COMMAND,
        environment: Mapping[str, str] | None = None,
        ready_within: timedelta = READY_WITHIN,
        first_backoff: timedelta = _FIRST_BACKOFF,
        imports_ahead: bool = True,
    ) -> None:
        """The command starts a runner; environment is its own, or the worker's when None.

        After a failed start the next one waits first_backoff, and twice as long each further time.
        Without *imports_ahead* a runner imports torch only when an attempt needs a pipeline.
        """
        self._device = device
        self._command = (*command, *(() if imports_ahead else (_ON_DEMAND,)))
        self._environment = environment
        self._ready_within = ready_within
        self._first_backoff = first_backoff
        self._process: RunnerProcess | None = None
        self._watch: AttemptWatch | None = None
        self._batch: RunnerBatch | None = None
        self._starting: asyncio.Task[RunnerProcess] | None = None
        self._failed_starts = 0
        self._is_closed = False
        self._report: DeviceReport | None = None
        self._report_time = 0.0

    @property
    def report(self) -> tuple[DeviceReport, timedelta] | None:
        """What the runner said last of its device, and how long ago; None: nothing yet."""
        if self._report is None:
            return None
        age = asyncio.get_running_loop().time() - self._report_time
        return self._report, timedelta(seconds=age)

    @property
    def device(self) -> str:
        """The device of the runner."""
        return self._device

    @property
    def pid(self) -> int | None:
        """The process id of the runner; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def task_id(self) -> str | None:
        """The task whose attempt runs, or one of those that run together; None while idle."""
        if self._batch is not None:
            return next(iter(self._batch.task_ids), None)
        return self._watch.attempt.task_id if self._watch is not None else None

    async def start(self) -> None:
        """Start the runner ahead of its first attempt, so that it has imported torch by then.

        Raises RunnerUnavailable after five starts in a row that failed; run tries again by itself.
        """
        await self._living()

    async def run(
        self,
        attempt: RunAttempt,
        *,
        time_limit: timedelta,
        grace_period: timedelta,
        memory_limit_bytes: int | None = None,
        on_progress: OnProgress,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> AttemptEnded:
        """Run an attempt and return how it ended; raises RunnerBusy while another one runs.

        The time limit counts from when a runner is ready. Whoever had to be killed, or died, is
        replaced when the next attempt comes. on_progress and on_checkpoint are called in the loop's
        thread.
        """
        self._check_idle()
        watch = self._watch = AttemptWatch(
            attempt,
            time_limit=time_limit,
            grace_period=grace_period,
            memory_limit_bytes=memory_limit_bytes,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
        )
        try:
            process = await self._process_unless_stopped(watch)
            if process is None:
                return watch.stopped()
            ended = await watch.until_end(process)
            self._note(ended)
            return ended
        except RunnerUnavailable as error:
            return watch.failed(FAILURE_REASON_UNAVAILABLE, str(error))
        finally:
            self._watch = None

    @contextmanager
    def together(self, task_ids: Sequence[str]) -> Generator[RunnerBatch]:
        """Have the runner for attempts of these tasks, which it runs together.

        Raises RunnerBusy while another one runs.
        """
        self._check_idle()
        batch = self._batch = RunnerBatch(task_ids, start=self._living, on_end=self._note)
        try:
            yield batch
        finally:
            batch.close()
            self._batch = None

    def _check_idle(self) -> None:
        if self._watch is not None or self._batch is not None:
            raise RunnerBusy(f"the runner of {self._device} runs task {self.task_id}")

    async def _living(self) -> RunnerProcess:
        # Shielded: who is cancelled while he waits does not end it for the others.
        return await asyncio.shield(self._start())

    def _note(self, ended: AttemptEnded) -> None:
        """Remember what the runner says of its device; of one that had to be killed, nothing."""
        self._report = ended.device if ended.HasField("device") else None
        self._report_time = asyncio.get_running_loop().time()

    def stop(self, task_id: str) -> bool:
        """Ask the task's attempt to stop, and tell whether it is the one that runs.

        Its run then returns within the grace period: the runner of an attempt that does not stop
        by itself is killed.
        """
        if self._watch is None or self._watch.attempt.task_id != task_id:
            return False
        self._watch.stop_asked.set()
        return True

    async def close(self) -> None:
        """End the runner, and with it an attempt that still runs; start nothing any more."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            await self._process.end(within=_ENDED_WITHIN)
            self._process = None

    async def _process_unless_stopped(self, watch: AttemptWatch) -> RunnerProcess | None:
        starting = self._start()
        asked = asyncio.create_task(watch.stop_asked.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if watch.stop_asked.is_set():
            return None  # the start goes on, for the next attempt
        if starting.cancelled():
            raise RunnerUnavailable(f"the runner of {self._device} is closed")
        return starting.result()

    def _start(self) -> asyncio.Task[RunnerProcess]:
        """Return the one task that brings a living runner, for whoever waits for it."""
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._living_process())
            self._starting.add_done_callback(_look_at)
        return self._starting

    async def _living_process(self) -> RunnerProcess:
        """Return a living runner, started anew up to five times in a row."""
        while True:
            if self._is_closed:
                raise RunnerUnavailable(f"the runner of {self._device} is closed")
            if self._process is not None and self._process.is_alive:
                return self._process
            await self._forget()
            try:
                self._process = await self._started()
            except _StartFailed as error:
                await self._after_failed_start(error)
            else:
                self._failed_starts = 0

    async def _started(self) -> RunnerProcess:
        try:
            process = await RunnerProcess.start(
                self._command, device=self._device, environment=self._environment
            )
        except OSError as error:
            raise _StartFailed(f"it cannot be started: {error.strerror}") from error
        try:
            await self._ready(process)
        except BaseException:
            process.kill()
            await process.end(within=_ENDED_WITHIN)
            raise
        _log.info("runner_started", device=self._device, pid=process.pid)
        return process

    async def _ready(self, process: RunnerProcess) -> None:
        """Return when the runner says that it is ready; raises _StartFailed."""
        try:
            async with asyncio.timeout(self._ready_within.total_seconds()):
                frame = await process.receive()
        except TimeoutError as error:
            seconds = self._ready_within.total_seconds()
            raise _StartFailed(f"it was not ready within {seconds:g} s") from error
        except PipeBroken as error:
            exit_code = await process.end(within=_ENDED_WITHIN)
            hopeless = exit_code == EXIT_SETTINGS_REFUSED
            raise _StartFailed(f"it {ending(exit_code)}", hopeless=hopeless) from error
        if frame.WhichOneof("frame") != "ready":
            raise _StartFailed("its first frame was not that it is ready")

    async def _after_failed_start(self, error: _StartFailed) -> None:
        self._failed_starts += 1
        _log.warning("runner_start_failed", device=self._device, reason=str(error))
        if error.hopeless:
            raise RunnerUnavailable(f"the runner of {self._device} refused its settings") from error
        if self._failed_starts >= MOST_STARTS:
            raise RunnerUnavailable(
                f"the runner of {self._device} did not start {self._failed_starts} times in a row:"
                f" {error}"
            ) from error
        backoff = self._first_backoff * 2 ** (self._failed_starts - 1)
        await asyncio.sleep(backoff.total_seconds())

    async def _forget(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        exit_code = await process.end(within=_ENDED_WITHIN)
        _log.info("runner_ended", device=self._device, pid=process.pid, ending=ending(exit_code))


def _look_at(starting: asyncio.Task[RunnerProcess]) -> None:
    """Take note of how a start ended, also when nobody waits for it any more."""
    if not starting.cancelled():
        starting.exception()
