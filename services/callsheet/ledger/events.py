"""Everything that can happen to a task. Facts, in the past tense, never changed."""

from datetime import timedelta

from msgspec import Struct

from callsheet.ledger.model import (
    Checkpoint,
    Failure,
    Quality,
    RegisteredMedia,
    Submission,
    TaskContext,
    Usage,
)


class TaskSubmitted(Struct, frozen=True):
    """The task was accepted. Always the first fact."""

    submission: Submission


class AttemptStarted(Struct, frozen=True):
    """A worker started an attempt."""

    attempt: int
    worker: str
    device: str
    lease: timedelta


class AttemptFailed(Struct, frozen=True):
    """An attempt failed, and another one will follow after the failure's retry_delay."""

    attempt: int
    failure: Failure


class AttemptReturned(Struct, frozen=True):
    """A worker gave an attempt back unfinished; it does not count as a failure."""

    attempt: int
    reason: str


class CancelRequested(Struct, frozen=True):
    """A running task was asked to stop."""

    reason: str


class TaskSucceeded(Struct, frozen=True):
    """The task ended with an output: its own, or that of the task *reused_from*."""

    attempt: int
    output: bytes
    usage: Usage
    quality: Quality | None = None
    reused_from: str = ""


class TaskFailed(Struct, frozen=True):
    """The task failed; *attempt* is zero when none was started."""

    attempt: int
    failure: Failure


class TaskCancelled(Struct, frozen=True):
    """The task was stopped."""

    reason: str


class ContextRetrieved(Struct, frozen=True):
    """What bears on the task was retrieved for its running attempt."""

    attempt: int
    context: TaskContext


class CheckpointSaved(Struct, frozen=True):
    """The state of the running attempt's work was saved, so that another one can go on from it."""

    attempt: int
    checkpoint: Checkpoint


class MediaRegistered(Struct, frozen=True):
    """The media library has documents of the artifacts of a task that succeeded."""

    media: tuple[RegisteredMedia, ...]


Event = (
    TaskSubmitted
    | AttemptStarted
    | AttemptFailed
    | AttemptReturned
    | CancelRequested
    | TaskSucceeded
    | TaskFailed
    | TaskCancelled
    | ContextRetrieved
    | CheckpointSaved
    | MediaRegistered
)
