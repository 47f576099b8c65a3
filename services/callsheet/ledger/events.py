"""Everything that can happen to a task. Facts, in the past tense, never changed."""

from dataclasses import dataclass
from datetime import timedelta

from callsheet.ledger.model import Failure, Submission, Usage


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """The task was accepted. Always the first fact."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A worker started an attempt."""

    attempt: int
    worker: str
    device: str
    lease: timedelta


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed, and another one will follow after the failure's retry_delay."""

    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """A worker gave an attempt back unfinished; it does not count as a failure."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A running task was asked to stop."""

    reason: str


@dataclass(frozen=True, slots=True)
class TaskSucceeded:
    """The task ended with an output."""

    attempt: int
    output: bytes
    usage: Usage


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The task failed; *attempt* is zero when none was started."""

    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """The task was stopped."""

    reason: str


Event = (
    TaskSubmitted
    | AttemptStarted
    | AttemptFailed
    | AttemptReturned
    | CancelRequested
    | TaskSucceeded
    | TaskFailed
    | TaskCancelled
)
