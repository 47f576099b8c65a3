"""One attempt in the runner: what its handler may ask, and how it ends."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import AttemptEnded, AttemptProgress, FromRunner, RunAttempt
from callsheet.runner.agreement import PromptAgreement
from callsheet.runner.context import (
    Knowledge,
    LoadedPipeline,
    Resolve,
    SimilarTask,
    TaskStopped,
)
from callsheet.runner.failures import failure_of, one_line
from callsheet.runner.frames import MAX_FRAME_BYTES
from callsheet.runner.handlers import pack_output, unpack_input
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.quality import is_measured, quality_of
from callsheet.runner.usage import UsageMeter
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1.task_pb2 import FailureReason, Progress, Quality

_LONGEST_PROGRESS_MESSAGE: Final = 200
_BETWEEN_REPORTS: Final = timedelta(milliseconds=50)
_LARGEST_OUTPUT: Final = MAX_FRAME_BYTES - 64 * 1024  # a frame holds usage and ids, too

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AttemptContext:
    """What the handler of a running attempt may ask: the TaskContext of the runner."""

    def __init__(
        self,
        run: RunAttempt,
        *,
        device: str,
        stop: threading.Event,
        send: Callable[[FromRunner], None],
        pipelines: Pipelines,
        artifacts: ArtifactStore,
        meter: UsageMeter,
    ) -> None:
        self._run = run
        self._device = device
        self._stop = stop
        self._send = send
        self._pipelines = pipelines
        self._artifacts = artifacts
        self._meter = meter
        self._next_report = 0.0
        self._is_measured = is_measured(run.task_type)
        #: The bytes of the artifacts stored so far, by key, if a measure will look at them.
        self.contents: dict[str, bytes] = {}

    @property
    def task_id(self) -> str:
        """The task."""
        return self._run.task_id

    @property
    def attempt(self) -> int:
        """The attempt, counted from 1."""
        return self._run.attempt

    @property
    def project(self) -> str:
        """The project the task belongs to."""
        return self._run.project

    @property
    def device(self) -> str:
        """The device held."""
        return self._device

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What the project knows that bears on the task."""
        return tuple(
            Knowledge(known.source, known.text, known.score)
            for known in self._run.context.knowledge
        )

    @property
    def similar_tasks(self) -> tuple[SimilarTask, ...]:
        """Ended tasks of the project that resemble this one."""
        return tuple(
            SimilarTask(each.task_id, each.task_type, each.status, each.text, each.score)
            for each in self._run.context.similar_tasks
        )

    def report(self, current: int, total: int, message: str = "") -> None:
        """Tell how far the attempt is; newest wins, so few are sent when many are told."""
        self.check()
        now = time.monotonic()
        if 0 < current < total and now < self._next_report:
            return
        self._next_report = now + _BETWEEN_REPORTS.total_seconds()
        progress = Progress(
            current=current,
            total=total,
            percentage=min(100.0, 100.0 * current / total) if total else 0.0,
            message=one_line(message)[:_LONGEST_PROGRESS_MESSAGE],
        )
        self._send(FromRunner(progress=AttemptProgress(task_id=self.task_id, progress=progress)))

    def check(self) -> None:
        """Raise TaskStopped when the attempt was asked to stop."""
        if self._stop.is_set():
            raise TaskStopped

    def wait(self, duration: timedelta) -> None:
        """Return after the duration; raises TaskStopped at once when asked to stop."""
        if self._stop.wait(duration.total_seconds()):
            raise TaskStopped

    def pipeline(self, model_name: str) -> LoadedPipeline:
        """Return the model's pipeline, loading it when it is not warm."""
        self.check()
        with self._meter.loading():
            return self._pipelines.get(model_name)

    def put(
        self,
        content: bytes,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Store the bytes as an artifact of this attempt."""
        self.check()
        stored = self._artifacts.put(
            content,
            project=self.project,
            task_id=self.task_id,
            attempt=self.attempt,
            media_type=media_type,
            suffix=suffix,
        )
        if self._is_measured:
            self.contents[stored.key] = content
        return Artifact(
            uri=stored.uri,
            key=stored.key,
            sha256=stored.sha256,
            media_type=media_type,
            size_bytes=stored.size,
            width=width,
            height=height,
        )

    def quality(self, input: Message, output: Message) -> Quality | None:
        """Return how good the output is, by the measure of its task type; None: it has none."""
        return quality_of(
            self._run.task_type,
            input,
            output,
            contents=self.contents,
            agreement=self._loaded_agreement,
        )

    def _loaded_agreement(self) -> PromptAgreement | None:
        with self._meter.loading():
            return self._pipelines.agreement()


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, for the worker and for the runner itself."""

    frame: AttemptEnded
    """Without usage."""
    error: Exception | None = None
    """What the handler raised, when it failed."""


def end_of(run: RunAttempt, context: AttemptContext, *, resolve: Resolve) -> Ending:
    """Run the attempt's handler to its end, whatever that is."""
    frame = AttemptEnded(task_id=run.task_id)
    try:
        context.check()
        handler = resolve(run.task_type)
        input_message = unpack_input(run.task_type, run.input)
        output = handler(input_message, context)
        frame.output.CopyFrom(_packed(run.task_type, output))
        if quality := context.quality(input_message, output):
            frame.quality.CopyFrom(quality)
    except TaskStopped:
        _log.info("attempt_stopped")
        frame.stopped = True
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its attempt's failure
        failure = failure_of(error)
        frame.failure.CopyFrom(failure)
        _log.warning("attempt_failed", reason=FailureReason.Name(failure.reason), exc_info=error)
        return Ending(frame, error)
    return Ending(frame)


def _packed(task_type: str, output: Message) -> Any:
    packed = pack_output(task_type, output)
    if packed.ByteSize() > _LARGEST_OUTPUT:
        raise ValueError(f"an output of {packed.ByteSize()} bytes is more than {_LARGEST_OUTPUT}")
    return packed
