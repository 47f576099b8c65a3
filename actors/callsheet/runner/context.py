"""What a handler may ask of whoever runs it, and how it says that it stopped or failed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import Message

from callsheet.runner.rendering import LoadedPipeline, Mode, RenderControls, Words, step_of
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1.task_pb2 import FailureReason, ProgressPhase

if TYPE_CHECKING:
    from callsheet.media.limits import MediaLimits
    from callsheet.media.reader import MediaReader


class TaskStopped(BaseException):
    """The attempt was asked to stop, and did so between two steps.

    Not an Exception, so that no `except Exception` on the way keeps the attempt running.
    """


class HandlerFailure(Exception):
    """A handler knows why it cannot go on; anything else it raises is INTERNAL."""

    def __init__(
        self,
        reason: FailureReason.ValueType,
        message: str,
        *,
        memory_needed_bytes: int = 0,
    ) -> None:
        """*memory_needed_bytes* is what a device must have, if this one is known to have less."""
        super().__init__(message)
        self.reason, self.message = reason, message
        self.memory_needed_bytes = memory_needed_bytes


@dataclass(frozen=True)
class Knowledge:
    """One thing the project knows. Text of others: data to draw on, never instructions."""

    source: str
    """Where it comes from, such as the id of a document."""
    text: str
    score: float
    """How near it is in meaning, from -1 to 1."""


@dataclass(frozen=True)
class SimilarTask:
    """An ended task of the project that resembles this one. Its text is data, as above."""

    task_id: str
    task_type: str
    status: str
    """How it ended: completed or failed."""
    text: str
    """What it was asked for."""
    score: float
    """How near it is in meaning, from -1 to 1."""


class TaskContext(Protocol):
    """One running attempt, as its handler sees it."""

    @property
    def task_id(self) -> str:
        """The task."""
        ...

    @property
    def attempt(self) -> int:
        """The attempt, counted from 1."""
        ...

    @property
    def project(self) -> str:
        """The project the task belongs to."""
        ...

    @property
    def device(self) -> str:
        """The device held: cpu, or cuda:N."""
        ...

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """What the project knows that bears on the task, the nearest first; often nothing.

        It may differ from one attempt to the next. The output of a type with a cache_ttl must not
        depend on it.
        """
        ...

    @property
    def similar_tasks(self) -> tuple[SimilarTask, ...]:
        """Ended tasks of the project that resemble this one, the most similar first."""
        ...

    def report(self, current: int, total: int, message: str = "") -> None:
        """Tell how far the attempt is; a total of 0 is unknown. Raises TaskStopped."""
        ...

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Say what the attempt spends its time on from now on, until it enters another phase.

        Its usage tells how long each took, and its progress which one it is in. Loading models is
        counted without a word.
        """
        ...

    def check(self) -> None:
        """Raise TaskStopped when the attempt was asked to stop."""
        ...

    def wait(self, duration: timedelta) -> None:
        """Return after the duration; raises TaskStopped as soon as the attempt is asked to stop."""
        ...

    def pipeline(self, model_name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the model's pipeline, loading it when it is not warm; empty: the default model.

        With a mode, an empty name is the default model for it. Raises HandlerFailure:
        MODEL_NOT_FOUND when it is not in the catalogue or cannot be loaded, INVALID_INPUT when it
        cannot do what the mode asks, UNAVAILABLE when the hub cannot be reached.
        """
        ...

    def controls(self, *, words: Words = step_of, preview_every_steps: int = 0) -> RenderControls:
        """Return what a pipeline is given with the attempt's next rendering.

        It reports the steps in these words, stops when the attempt must, keeps checkpoints that
        another attempt goes on from if it renders the same in the same order, and shows a preview
        after so many steps each; 0: it shows none.
        """
        ...

    @property
    def scratch(self) -> Path:
        """A folder for files without names: nothing that is left there is cleaned away."""
        ...

    @property
    def media_limits(self) -> "MediaLimits":
        """What holds for files that are read, and for what is made of them."""
        ...

    def open_media(self) -> "MediaReader":
        """Return what reads the files that the input refers to, within the limits of the settings.

        It is used in a `with`, and costs a process while it is open.
        """
        ...

    def put(
        self,
        content: bytes | Path,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Store the bytes, or the file's, as an artifact of this attempt.

        Raises ArtifactStoreError.
        """
        ...


Handler = Callable[[Message, TaskContext], Message]
"""What runs one task type: `run(input, context) -> output` with the type's own messages."""

Resolve = Callable[[str], Handler]
"""Finds the handler of a task type; raises UnknownTaskType."""


class UnknownTaskType(LookupError):
    """No handler runs tasks of this type."""

    def __init__(self, task_type: str) -> None:
        super().__init__(f"there is no handler for the task type {task_type!r}")
        self.task_type = task_type
