"""Watching one attempt in a runner: until it ends, or has to be ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, cast

import structlog

from callsheet.internal.v1.pipe_pb2 import (
    AttemptCheckpoint,
    AttemptEnded,
    AttemptProgress,
    FromRunner,
    RunAttempt,
    StopAttempt,
    ToRunner,
)
from callsheet.runner.frames import PipeBroken
from callsheet.runner.handlers import holds_device
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_OUT_OF_MEMORY,
    FAILURE_REASON_TIME_LIMIT,
    FAILURE_REASON_WORKER_LOST,
    Checkpoint,
    Failure,
    FailureReason,
    Progress,
    Usage,
)
from callsheet.worker.memory_watch import memory_above
from callsheet.worker.runner_process import RunnerProcess, ending

OnProgress = Callable[[Progress], None]
OnCheckpoint = Callable[[Checkpoint], None]
Receive = Callable[[], Awaitable[FromRunner]]

_ENDED_WITHIN: Final = timedelta(seconds=2)
_MEBIBYTE: Final = 2**20

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AttemptWatch:
    """One attempt on its way through a runner.

    A stop asked for wins over the time limit, and an output that arrives before the runner is
    killed wins over both: the work is done, and what becomes of it is the ledger's to say.
    """

    def __init__(
        self,
        attempt: RunAttempt,
        *,
        time_limit: timedelta,
        grace_period: timedelta,
        memory_limit_bytes: int | None,
        on_progress: OnProgress,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> None:
        self.attempt = attempt
        self.stop_asked = asyncio.Event()
        self._time_limit = time_limit
        self._grace_period = grace_period
        self._memory_limit_bytes = memory_limit_bytes
        self._on_progress = on_progress
        self._on_checkpoint = on_checkpoint
        self._start_time = time.monotonic()

    async def until_end(
        self, process: RunnerProcess, *, receive: Receive | None = None
    ) -> AttemptEnded:
        """Send the attempt to an idle runner and return how it ended.

        With *receive*, what waits for the attempt's own frames, it was sent already, with others.
        The runner is dead afterwards when it had to be killed, broke, or this call was cancelled.
        """
        self._start_time = time.monotonic()
        if receive is None:
            receive = process.receive
            try:
                process.send(ToRunner(run=self.attempt))
            except PipeBroken as error:
                return self.failed(FAILURE_REASON_INTERNAL, f"the attempt cannot be sent: {error}")
        ended = asyncio.create_task(self._received_end(receive))
        crowded = asyncio.create_task(self._memory_above(process))
        asked = asyncio.create_task(self.stop_asked.wait())
        try:
            await _first_of(ended, crowded, asked, within=self._time_limit)
            if not (ended.done() or crowded.done()):
                process.send(ToRunner(stop=StopAttempt(task_id=self.attempt.task_id)))
                await _first_of(ended, crowded, within=self._grace_period)
            if ended.done():
                return await self._as_ended(process, ended)
            process.kill()
            if crowded.done():
                return self._out_of_memory(crowded.result())
            _log.warning("runner_killed", task_id=self.attempt.task_id, pid=process.pid)
            return self.stopped() if self.stop_asked.is_set() else self._over_time()
        except BaseException:
            process.kill()
            raise
        finally:
            for task in (ended, crowded, asked):
                task.cancel()
            await asyncio.gather(ended, crowded, asked, return_exceptions=True)

    def stopped(self) -> AttemptEnded:
        """Return the end of an attempt that was stopped as asked."""
        return AttemptEnded(task_id=self.attempt.task_id, usage=self._usage(), stopped=True)

    def failed(self, reason: FailureReason.ValueType, message: str) -> AttemptEnded:
        """Return the end of an attempt whose runner could not say it."""
        failure = Failure(reason=reason, message=message)
        return AttemptEnded(task_id=self.attempt.task_id, usage=self._usage(), failure=failure)

    async def _received_end(self, receive: Receive) -> AttemptEnded:
        while True:
            frame = await receive()
            match frame.WhichOneof("frame"):
                case "progress":
                    self._report(frame.progress)
                case "checkpoint":
                    self._note(frame.checkpoint)
                case "ended" if frame.ended.task_id == self.attempt.task_id:
                    return frame.ended
                case _:
                    _log.warning("frame_ignored", task_id=self.attempt.task_id)

    def _report(self, progress: AttemptProgress) -> None:
        if progress.task_id != self.attempt.task_id:
            return
        try:
            self._on_progress(progress.progress)
        except Exception as error:  # noqa: BLE001 - progress that nobody can take ends no attempt
            _log.warning("progress_not_taken", task_id=self.attempt.task_id, exc_info=error)

    def _note(self, saved: AttemptCheckpoint) -> None:
        mine = (saved.task_id, saved.attempt) == (self.attempt.task_id, self.attempt.attempt)
        if mine and self._on_checkpoint is not None:
            self._on_checkpoint(saved.checkpoint)

    async def _memory_above(self, process: RunnerProcess) -> int:
        if self._memory_limit_bytes is None:
            return await asyncio.get_running_loop().create_future()  # never; cancelled at the end
        return await memory_above(process.pid, limit_bytes=self._memory_limit_bytes)

    async def _as_ended(
        self, process: RunnerProcess, ended: asyncio.Task[AttemptEnded]
    ) -> AttemptEnded:
        try:
            frame = ended.result()
        except PipeBroken as error:
            exit_code = await process.end(within=_ENDED_WITHIN)
            return self._lost(f"the runner {ending(exit_code)}: {error}")
        match frame.WhichOneof("outcome"):
            case "stopped" if not self.stop_asked.is_set():
                over_time = self._over_time()
                over_time.usage.CopyFrom(frame.usage)
                return over_time
            case None:
                return self.failed(FAILURE_REASON_INTERNAL, "the runner told no outcome")
            case _:
                return frame

    def _lost(self, message: str) -> AttemptEnded:
        if self.stop_asked.is_set():
            return self.stopped()
        return self.failed(FAILURE_REASON_WORKER_LOST, message)

    def _over_time(self) -> AttemptEnded:
        seconds = self._time_limit.total_seconds()
        return self.failed(
            FAILURE_REASON_TIME_LIMIT, f"the attempt ran longer than its limit of {seconds:g} s"
        )

    def _out_of_memory(self, held: int) -> AttemptEnded:
        limit = (self._memory_limit_bytes or 0) // _MEBIBYTE
        ended = self.failed(
            FAILURE_REASON_OUT_OF_MEMORY,
            f"the runner held {held // _MEBIBYTE} MiB, more than its limit of {limit} MiB",
        )
        ended.usage.peak_rss_bytes = held
        return ended

    def _usage(self) -> Usage:
        """Return what the worker knows of an attempt whose runner cannot say it any more."""
        held = time.monotonic() - self._start_time
        on_device = holds_device(self.attempt.task_type)
        return Usage(gpu_seconds=held if on_device else 0.0, run_seconds=held)


async def _first_of(*tasks: asyncio.Task[Any], within: timedelta) -> None:
    await asyncio.wait(tasks, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
