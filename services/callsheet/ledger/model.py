"""What a task is. Pure values: no I/O, no clock, no ids made here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final

NO_TIME: Final = timedelta(0)
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class TaskState(Enum):
    """Where a task is in its life."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


_S = TaskState

#: The state machine, drawn once: the documentation and the property tests read this table.
NEXT_STATES: Final[Mapping[TaskState, frozenset[TaskState]]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
        _S.RUNNING: frozenset({_S.PENDING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
        _S.SUCCEEDED: frozenset[TaskState](),
        _S.FAILED: frozenset[TaskState](),
        _S.CANCELLED: frozenset[TaskState](),
    }
)

#: The states without a next one.
FINAL: Final = frozenset(state for state, following in NEXT_STATES.items() if not following)


class FailureReason(Enum):
    """Why a task or an attempt failed."""

    INVALID_INPUT = "INVALID_INPUT"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIME_LIMIT = "TIME_LIMIT"
    WORKER_LOST = "WORKER_LOST"
    POISON = "POISON"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    UNAVAILABLE = "UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    ARTIFACT_STORE = "ARTIFACT_STORE"


@dataclass(frozen=True, slots=True)
class Failure:
    """A recorded, structured reason. *retry_delay* is set when another attempt follows."""

    reason: FailureReason
    message: str
    retryable: bool = False
    retry_delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between attempts: *initial*, times *multiplier*, up to *maximum*."""

    initial: timedelta
    multiplier: float
    maximum: timedelta


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task used, in seconds, bytes and tokens."""

    gpu_seconds: float = 0.0
    queue_seconds: float = 0.0
    model_load_seconds: float = 0.0
    run_seconds: float = 0.0
    peak_vram_bytes: int = 0
    peak_rss_bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that ended in failure."""

    attempt: int
    failure: Failure
    end_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was asked for, and under which terms. Never changes."""

    project: str
    task_type: str
    spec: bytes
    queue: str
    priority: int
    max_attempts: int
    time_limit: timedelta
    delay: timedelta = NO_TIME
    expire_after: timedelta | None = None
    callback_url: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    trace_parent: str = ""
    retry_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One requested unit of work: what its facts fold to."""

    id: str
    submission: Submission
    state: TaskState
    sequence: int
    create_time: datetime
    update_time: datetime
    attempt: int = 0
    failures: int = 0
    start_time: datetime | None = None
    ready_delay: timedelta = NO_TIME
    worker: str = ""
    device: str = ""
    cancel_requested: bool = False
    cancel_reason: str = ""
    output: bytes = b""
    failure: Failure | None = None
    usage: Usage = field(default_factory=Usage)
    ended_attempts: tuple[EndedAttempt, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether no further attempt can come."""
        return self.state in FINAL

    @property
    def end_time(self) -> datetime | None:
        """When the task became final."""
        return self.update_time if self.is_final else None

    @property
    def ready_time(self) -> datetime | None:
        """When the next attempt may start, while the task waits for a time."""
        waits = self.state is TaskState.PENDING and self.ready_delay > NO_TIME
        return self.update_time + self.ready_delay if waits else None

    @property
    def expire_time(self) -> datetime | None:
        """When the task fails if it is still waiting then."""
        after = self.submission.expire_after
        return None if after is None else self.create_time + after


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running attempt is, and when it said so."""

    current: int
    total: int
    message: str
    update_time: datetime

    @property
    def percentage(self) -> float:
        """*current* of *total* in percent; zero when the total is unknown."""
        return min(100.0, 100.0 * self.current / self.total) if self.total else 0.0
