"""Attempts that a runner runs together: each is run, stopped and ended as if it were alone."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.internal.v1.pipe_pb2 import AttemptEnded, FromRunner, RunAttempt, RunBatch, ToRunner
from callsheet.runner.frames import PipeBroken
from callsheet.v1.task_pb2 import FAILURE_REASON_INTERNAL
from callsheet.worker.attempt_watch import AttemptWatch, OnCheckpoint, OnProgress
from callsheet.worker.runner_process import RunnerProcess

#: For an attempt that nobody watches any more they are thrown away.
_MOST_WAITING_FRAMES: Final = 64

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class KilledForAnother(Exception):
    """The runner was killed for another attempt of the batch; this one is not to blame."""


class RunnerBatch:
    """One batch on its way through a runner; not used twice.

    Each attempt of it is either run or left out, and the runner gets them when that is decided of
    all.
    """

    def __init__(
        self,
        task_ids: Sequence[str],
        *,
        start: Callable[[], Awaitable[RunnerProcess]],
        on_end: Callable[[AttemptEnded], None],
    ) -> None:
        """*start* brings a living runner that is idle; *on_end* is told what the runner says."""
        self._undecided = set(task_ids)
        self._start = start
        self._on_end = on_end
        self._watches: dict[str, AttemptWatch] = {}
        self._decided = asyncio.Event()
        self._sending: asyncio.Task[_Frames] | None = None
        self._frames: _Frames | None = None

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The tasks whose attempts are in it."""
        return tuple(self._watches)

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
        """Run an attempt of the batch as RunnerHost.run does.

        Raises KilledForAnother, and what *start* raises.
        """
        watch = self._watches[attempt.task_id] = AttemptWatch(
            attempt,
            time_limit=time_limit,
            grace_period=grace_period,
            memory_limit_bytes=memory_limit_bytes,
            on_progress=on_progress,
            on_checkpoint=on_checkpoint,
        )
        self.leave(attempt.task_id)
        await self._decided.wait()
        if self._sending is None:
            self._sending = asyncio.create_task(self._sent())
        # Shielded: it is everybody's.
        frames = await asyncio.shield(self._sending)
        if frames.unsent is not None:
            message = f"the attempt cannot be sent: {frames.unsent}"
            return watch.failed(FAILURE_REASON_INTERNAL, message)
        ended = await watch.until_end(frames.process, receive=frames.receiver(attempt.task_id))
        self._on_end(ended)
        return ended

    def leave(self, task_id: str) -> None:
        """Wait no longer for an attempt: it is there, or will not come."""
        self._undecided.discard(task_id)
        if not self._undecided:
            self._decided.set()

    def stop(self, task_id: str) -> bool:
        """Ask an attempt to stop, as RunnerHost.stop does; the others go on."""
        watch = self._watches.get(task_id)
        if watch is None:
            return False
        watch.stop_asked.set()
        return True

    def close(self) -> None:
        """End what still reads; call it when every attempt has ended."""
        if self._sending is not None:
            self._sending.cancel()
        if self._frames is not None:
            self._frames.close()

    async def _sent(self) -> "_Frames":
        process = await self._start()
        attempts = {task_id: watch.attempt for task_id, watch in self._watches.items()}
        frames = self._frames = _Frames(process, attempts)
        try:
            process.send(ToRunner(batch=RunBatch(attempts=attempts.values())))
        except PipeBroken as error:
            frames.unsent = error
        return frames


class _Frames:
    """What a runner says of the attempts of one batch, each for whoever watches it."""

    def __init__(self, process: RunnerProcess, attempts: Mapping[str, RunAttempt]) -> None:
        self.process = process
        #: Why the runner was not sent the attempts; None: it was.
        self.unsent: PipeBroken | None = None
        self._queues: dict[str, asyncio.Queue[FromRunner | Exception]] = {
            task_id: asyncio.Queue(_MOST_WAITING_FRAMES) for task_id in attempts
        }
        self._reading = asyncio.create_task(self._read())

    def receiver(self, task_id: str) -> Callable[[], Awaitable[FromRunner]]:
        """Return what waits for an attempt's next frame; raises PipeBroken, KilledForAnother."""
        queue = self._queues[task_id]

        async def receive() -> FromRunner:
            frame = await queue.get()
            if isinstance(frame, Exception):
                raise frame
            return frame

        return receive

    def close(self) -> None:
        """Read no more."""
        self._reading.cancel()

    async def _read(self) -> None:
        try:
            while True:
                frame = await self.process.receive()
                kind = frame.WhichOneof("frame")
                queue = self._queues.get(getattr(frame, kind).task_id) if kind else None
                if queue is None:
                    _log.warning("frame_ignored", pid=self.process.pid)
                else:
                    _put(queue, frame)
        except PipeBroken as error:
            for queue in self._queues.values():
                _put(queue, KilledForAnother() if self.process.was_killed else error)


def _put(queue: asyncio.Queue[FromRunner | Exception], frame: FromRunner | Exception) -> None:
    """Let the frame wait; an older one that nobody takes gives way, as progress may."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(frame)
