"""One attempt in the runner: what its handler may ask, and how it ends."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol, cast

import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import AttemptEnded, AttemptProgress, FromRunner, RunAttempt
from callsheet.media.fetching import ProjectFiles
from callsheet.media.limits import MediaLimits
from callsheet.media.reader import MediaReader
from callsheet.runner.attempt_controls import AttemptControls
from callsheet.runner.checkpoints import AttemptCheckpoints, CheckpointPolicy
from callsheet.runner.context import (
    Knowledge,
    Resolve,
    SimilarTask,
    TaskStopped,
)
from callsheet.runner.failures import failure_of, one_line
from callsheet.runner.frames import MAX_FRAME_BYTES
from callsheet.runner.handlers import pack_output, unpack_input
from callsheet.runner.preview_pictures import AttemptPreviews
from callsheet.runner.quality import Agreement, is_measured, quality_of
from callsheet.runner.rendering import LoadedPipeline, Mode, Words, step_of
from callsheet.runner.uploads import OwnUploads, Uploads
from callsheet.runner.usage import UsageMeter
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1.task_pb2 import FailureReason, Progress, ProgressPhase, Quality

_LONGEST_PROGRESS_MESSAGE: Final = 200
_BETWEEN_REPORTS: Final = timedelta(milliseconds=50)
_LARGEST_OUTPUT: Final = MAX_FRAME_BYTES - 64 * 1024  # a frame holds usage and ids, too

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class PipelineSource(Protocol):
    """Where an attempt's models come from."""

    def get(self, name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the pipeline of a model, as TaskContext.pipeline says."""
        ...

    def agreement(self) -> Agreement | None:
        """Return what tells how well images agree with words. None: nothing does."""
        ...


class AttemptContext:
    """What the handler of a running attempt may ask: the TaskContext of the runner."""

    def __init__(
        self,
        run: RunAttempt,
        *,
        device: str,
        stop: threading.Event,
        send: Callable[[FromRunner], None],
        pipelines: PipelineSource,
        artifacts: ArtifactStore,
        uploads: Uploads | OwnUploads,
        checkpoint_period: timedelta,
        meter: UsageMeter,
        scratch: Path,
        limits: MediaLimits,
    ) -> None:
        self._run = run
        self._device = device
        self._stop = stop
        self._send = send
        self._pipelines = pipelines
        self._artifacts = artifacts
        self._meter = meter
        self._scratch = scratch
        self._limits = limits
        self._next_report = 0.0
        self._told: Progress | None = None
        self._preview: Artifact | None = None
        self._telling = threading.Lock()
        self._parts = 0
        self._uploads = uploads
        self._checkpoints = AttemptCheckpoints(
            run,
            artifacts=artifacts,
            uploads=uploads,
            send=send,
            policy=CheckpointPolicy(checkpoint_period, clock=time.monotonic),
        )
        self._previews = AttemptPreviews(
            run, artifacts=artifacts, uploads=uploads, tell=self._tell_preview
        )
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
        self._tell(
            Progress(
                current=current,
                total=total,
                percentage=min(100.0, 100.0 * current / total) if total else 0.0,
                message=one_line(message)[:_LONGEST_PROGRESS_MESSAGE],
                phase=self._meter.phase,
            )
        )

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Count the time from now on as that phase's; what was told last is told to be in it."""
        self._meter.enter(phase)
        self._tell_phase()

    def check(self) -> None:
        """Raise TaskStopped when the attempt was asked to stop."""
        if self._stop.is_set():
            raise TaskStopped

    def wait(self, duration: timedelta) -> None:
        """Return after the duration; raises TaskStopped at once when asked to stop."""
        if self._stop.wait(duration.total_seconds()):
            raise TaskStopped

    def pipeline(self, model_name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the model's pipeline, loading it when it is not warm."""
        self.check()
        with self._meter.loading():
            self._tell_phase()
            return self._pipelines.get(model_name, mode=mode)

    def controls(self, *, words: Words = step_of, preview_every_steps: int = 0) -> AttemptControls:
        """Return what a pipeline is given with the attempt's next rendering."""
        part, self._parts = self._parts, self._parts + 1
        return AttemptControls(
            check=self.check,
            report=self.report,
            enter=self.enter,
            checkpoints=self._checkpoints,
            part=part,
            previews=self._previews.sink(preview_every_steps) if preview_every_steps else None,
            words=words,
        )

    def close(self, *, succeeded: bool) -> None:
        """Save and show nothing any more; of an attempt that succeeded, delete what was saved."""
        self._previews.close()
        self._checkpoints.close(succeeded=succeeded)

    @property
    def scratch(self) -> Path:
        """A folder for files without names."""
        return self._scratch

    @property
    def media_limits(self) -> MediaLimits:
        """What holds for files that are read, and for what is made of them."""
        return self._limits

    def open_media(self) -> MediaReader:
        """Return what reads the files that the input refers to."""
        files = ProjectFiles(self._artifacts, self.project)
        return MediaReader(files.fetch, limits=self._limits, check=self.check, folder=self._scratch)

    def put(
        self,
        content: bytes | Path,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Store the bytes, or the file's, as an artifact of this attempt."""
        self.check()
        stored = self._artifacts.put(
            content,
            project=self.project,
            task_id=self.task_id,
            attempt=self.attempt,
            media_type=media_type,
            suffix=suffix,
        )
        if self._is_measured and isinstance(content, bytes):
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

    def _tell_phase(self) -> None:
        told, phase = self._told, self._meter.phase
        if told is not None and told.phase != phase:
            moved_on = Progress()
            moved_on.CopyFrom(told)
            moved_on.phase = phase
            self._tell(moved_on)

    def _tell(self, progress: Progress) -> None:
        with self._telling:
            if self._preview is not None:
                progress.preview.CopyFrom(self._preview)
            self._told = progress
            told = AttemptProgress(task_id=self.task_id, progress=progress)
            self._send(FromRunner(progress=told))

    def _tell_preview(self, preview: Artifact) -> None:
        """Tell of a preview at once; called in the thread that stores it."""
        self._preview = preview
        progress = Progress()
        if self._told is not None:
            progress.CopyFrom(self._told)
        self._tell(progress)

    def _loaded_agreement(self) -> Agreement | None:
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
