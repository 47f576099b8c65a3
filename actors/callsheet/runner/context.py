"""What a handler may ask of whoever runs it, and how it says that it stopped or failed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import Message

from callsheet.runtime.models import Model
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import Scheduler
from callsheet.v1.task_pb2 import FailureReason

if TYPE_CHECKING:
    from PIL.Image import Image


class TaskStopped(BaseException):
    """The attempt was asked to stop, and did so between two steps.

    Not an Exception, so that no `except Exception` on the way keeps the attempt running.
    """


class HandlerFailure(Exception):
    """A handler knows why it cannot go on; anything else it raises is INTERNAL."""

    def __init__(self, reason: FailureReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Rendered:
    """One image, and what drew it."""

    image: "Image"
    scheduler: str
    """The name of the scheduler class that walked the steps."""


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


class LoadedPipeline(Protocol):
    """A pipeline that draws images from text, loaded and warm."""

    @property
    def model(self) -> Model:
        """The model it was loaded from, with its defaults."""
        ...

    def render(
        self,
        prompt: str,
        *,
        negative_prompt: str,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        seed: int,
        scheduler: Scheduler.ValueType,
        on_step: Callable[[int, int], None],
    ) -> Rendered:
        """Draw one image; the same arguments give the same pixels.

        Calls on_step(step, of) after each denoising step; what it raises ends the rendering and
        leaves the pipeline usable. Raises HandlerFailure(INVALID_INPUT) for what the model refuses.
        """
        ...


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

    def check(self) -> None:
        """Raise TaskStopped when the attempt was asked to stop."""
        ...

    def wait(self, duration: timedelta) -> None:
        """Return after the duration; raises TaskStopped as soon as the attempt is asked to stop."""
        ...

    def pipeline(self, model_name: str) -> LoadedPipeline:
        """Return the model's pipeline, loading it when it is not warm; empty: the default model.

        Raises HandlerFailure: MODEL_NOT_FOUND when it is not in the catalogue or cannot be loaded,
        UNAVAILABLE when the hub cannot be reached.
        """
        ...

    def put(
        self,
        content: bytes,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Store the bytes as an artifact of this attempt; raises ArtifactStoreError."""
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
