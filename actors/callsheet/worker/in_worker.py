"""Attempts that run in the worker itself: for handlers that need no memory and cannot hang."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from callsheet.internal.v1.pipe_pb2 import AttemptEnded
from callsheet.runner.context import (
    HandlerFailure,
    Knowledge,
    SimilarTask,
    TaskStopped,
)
from callsheet.runner.failures import failure_of
from callsheet.runner.handlers import handler_for, pack_output
from callsheet.runner.rendering import LoadedPipeline, Mode, RenderControls, Words, step_of
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_TIME_LIMIT,
    Progress,
    ProgressPhase,
)
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.running import Running

if TYPE_CHECKING:
    from callsheet.media.limits import MediaLimits
    from callsheet.media.reader import MediaReader


class InWorkerContext:
    """The TaskContext of an attempt in the worker: no pipelines, no artifacts, no device."""

    def __init__(self, running: Running, *, on_progress: Callable[[Progress], None]) -> None:
        self._running = running
        self._on_progress = on_progress
        self._limit = running.task.submission.time_limit
        self._ends = time.monotonic() + self._limit.total_seconds()
        self.task_id = running.task.id
        self.attempt = running.attempt
        self.project = running.task.submission.project
        self.device = ""
        #: Nothing is asked of the brain for what takes no time.
        self.knowledge: tuple[Knowledge, ...] = ()
        self.similar_tasks: tuple[SimilarTask, ...] = ()

    def report(self, current: int, total: int, message: str = "") -> None:
        """Tell how far the attempt is; a total of 0 is unknown. Raises TaskStopped."""
        self.check()
        self._on_progress(Progress(current=current, total=total, message=message))

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Do nothing: of what is as quick as what runs here, nobody asks for phases."""
        del phase

    def check(self) -> None:
        """Raise TaskStopped when the attempt was asked to stop."""
        self.wait(timedelta(0))

    def wait(self, duration: timedelta) -> None:
        """Return after the duration; raises TaskStopped as soon as the attempt is asked to stop."""
        left = self._ends - time.monotonic()
        if self._running.stopping.wait(min(duration.total_seconds(), max(0.0, left))):
            raise TaskStopped
        if duration.total_seconds() > left:
            raise HandlerFailure(
                FAILURE_REASON_TIME_LIMIT, f"the attempt ran longer than its {self._limit}"
            )

    def controls(self, *, words: Words = step_of, preview_every_steps: int = 0) -> RenderControls:
        """Refuse: what renders lives in a runner."""
        del words, preview_every_steps
        raise HandlerFailure(FAILURE_REASON_INTERNAL, "nothing is rendered in the worker")

    def pipeline(self, model_name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Refuse: a pipeline lives in a runner."""
        del mode
        raise HandlerFailure(FAILURE_REASON_INTERNAL, f"no {model_name or 'model'} in the worker")

    @property
    def scratch(self) -> Path:
        """Refuse: files are worked on in a runner."""
        raise HandlerFailure(FAILURE_REASON_INTERNAL, "no files in the worker")

    @property
    def media_limits(self) -> "MediaLimits":
        """Refuse: files are worked on in a runner."""
        raise HandlerFailure(FAILURE_REASON_INTERNAL, "no files in the worker")

    def open_media(self) -> "MediaReader":
        """Refuse: files are worked on in a runner."""
        raise HandlerFailure(FAILURE_REASON_INTERNAL, "no files in the worker")

    def put(
        self,
        content: bytes | Path,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Refuse: artifacts come from a runner."""
        del content, suffix, width, height
        raise HandlerFailure(FAILURE_REASON_INTERNAL, f"no {media_type} artifacts in the worker")


def run_in_worker(running: Running, *, on_progress: Callable[[Progress], None]) -> AttemptEnded:
    """Run the attempt's handler in this thread, and return how it ended."""
    task_type = running.kind.name
    frame = AttemptEnded(task_id=running.task.id)
    context = InWorkerContext(running, on_progress=on_progress)
    start = time.monotonic()
    try:
        context.check()
        spec = TaskSpec.FromString(running.task.submission.spec)
        input_message: Message = getattr(spec, task_type)
        output = handler_for(task_type)(input_message, context)
        frame.output.CopyFrom(pack_output(task_type, output))
    except TaskStopped:
        frame.stopped = True
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is its attempt's failure
        frame.failure.CopyFrom(failure_of(error))
    frame.usage.run_seconds = time.monotonic() - start
    return frame
