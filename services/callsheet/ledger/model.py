"""What a task is. Pure values: no I/O, no clock, no ids made here.

Structs: several are made for each fact, at a tenth of what a frozen dataclass takes.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import Struct

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
    DEVICE_LOST = "DEVICE_LOST"


class Failure(Struct, frozen=True):
    """A recorded, structured reason. *retry_delay* is set when another attempt follows."""

    reason: FailureReason
    message: str
    retryable: bool = False
    retry_delay: timedelta | None = None
    #: What a device must have at the least, if the attempt's was known to have too little; else 0.
    memory_needed_bytes: int = 0


class Backoff(Struct, frozen=True):
    """How long to wait between attempts: *initial*, times *multiplier*, up to *maximum*.

    Or, if there are any, *waits* in their order, of which the last one repeats.
    """

    initial: timedelta
    multiplier: float
    maximum: timedelta
    waits: tuple[timedelta, ...] = ()


class Usage(Struct, frozen=True):
    """What a task used, in seconds, bytes and tokens."""

    gpu_seconds: float = 0.0
    queue_seconds: float = 0.0
    model_load_seconds: float = 0.0
    run_seconds: float = 0.0
    peak_vram_bytes: int = 0
    peak_rss_bytes: int = 0
    tokens: int = 0
    step_seconds: float | None = None
    encode_seconds: float | None = None


#: What a task used of which nothing is known yet.
NO_USAGE: Final = Usage()


class EndedAttempt(Struct, frozen=True):
    """An attempt that ended in failure."""

    attempt: int
    failure: Failure
    end_time: datetime


class Quality(Struct, frozen=True):
    """How good an output is by a measure that is named; scores of two measures do not compare."""

    measure: str
    score: float
    parts: Mapping[str, float]


class Knowledge(Struct, frozen=True):
    """One thing a project knows: data, never instructions."""

    source: str
    text: str
    score: float


class SimilarTask(Struct, frozen=True):
    """An ended task that resembles another one; *status* as a webhook says it."""

    task_id: str
    task_type: str
    status: str
    text: str
    score: float


class TaskContext(Struct, frozen=True):
    """What is known that bears on a task, the nearest in meaning first."""

    knowledge: tuple[Knowledge, ...] = ()
    similar_tasks: tuple[SimilarTask, ...] = ()


class Checkpoint(Struct, frozen=True):
    """The state of an attempt's work in the artifact store, and behind which step it goes on.

    *part* is the one of the attempt's renderings that it belongs to, counted from 0.
    """

    key: str
    sha256: str
    size_bytes: int
    step: int
    of: int
    part: int = 0


class RegisteredMedia(Struct, frozen=True):
    """An artifact, by its URI, and the document that the media library has of it."""

    uri: str
    payload_media_id: str


class PinnedModel(NamedTuple):
    """A model that a *field* of the input names, as the catalogue said at the submission."""

    field: str
    name: str
    #: Empty: it is built in, and has none.
    revision: str = ""


class ReuseTerms(Struct, frozen=True):
    """Under which terms an output may be used again for an equal submission of the project.

    *digest* is of what equal submissions have in common, in hexadecimal digits; *models* are those
    that it is of.
    """

    digest: str
    ttl: timedelta
    models: tuple[PinnedModel, ...] = ()


class Terms(NamedTuple):
    """What many submissions have in common, so that what follows from it is made once."""

    project: str
    task_type: str
    queue: str
    priority: int
    max_attempts: int
    time_limit: timedelta
    delay: timedelta
    expire_after: timedelta | None


class CallbackEvent(Enum):
    """What a callback may ask to be told besides the end of its task."""

    QUEUED = "QUEUED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRYING = "RETRYING"
    CANCELLED = "CANCELLED"


class Submission(Struct, frozen=True, kw_only=True):
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
    #: What the callback is told besides the end, each once and in the order of CallbackEvent.
    callback_events: tuple[CallbackEvent, ...] = ()
    metadata: Mapping[str, str] = NOTHING
    trace_parent: str = ""
    retry_of: str = ""
    #: None: the output is not used again.
    reuse: ReuseTerms | None = None

    @property
    def terms(self) -> Terms:
        """What it has in common with many others."""
        return Terms(
            self.project,
            self.task_type,
            self.queue,
            self.priority,
            self.max_attempts,
            self.time_limit,
            self.delay,
            self.expire_after,
        )


class Task(Struct, frozen=True, kw_only=True):
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
    usage: Usage = NO_USAGE
    ended_attempts: tuple[EndedAttempt, ...] = ()
    #: What was known when the latest attempt started.
    context: TaskContext | None = None
    context_time: datetime | None = None
    #: The newest state that was saved of its work; None: there is none, or it is final.
    checkpoint: Checkpoint | None = None
    #: How many attempts counted as failed when it was saved.
    checkpoint_failures: int = 0
    quality: Quality | None = None
    #: The task whose output this one was answered with.
    reused_from: str = ""
    #: What the media library has of its artifacts, in their order.
    media: tuple[RegisteredMedia, ...] = ()
    #: When it became final, if something was noted of it since.
    ended_before: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether no further attempt can come."""
        return self.state in FINAL

    @property
    def resumes_from(self) -> Checkpoint | None:
        """Where the next attempt goes on; None: at the beginning.

        A state that an attempt went on from, and failed without saving a newer one, is not tried a
        second time: it may be what the attempt failed of.
        """
        return self.checkpoint if self.failures <= self.checkpoint_failures + 1 else None

    @property
    def end_time(self) -> datetime | None:
        """When the task became final."""
        return (self.ended_before or self.update_time) if self.is_final else None

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


class ProgressPhase(Enum):
    """What a running attempt spends its time on."""

    LOADING = "LOADING"
    STEPS = "STEPS"
    ENCODING = "ENCODING"


class Progress(Struct, frozen=True):
    """How far a running attempt is, and when it said so; *phase* if what it does has a name."""

    current: int
    total: int
    message: str
    update_time: datetime
    phase: ProgressPhase | None = None
    #: The contract's message of a small picture of what is being made. Empty: there is none.
    preview: bytes = b""

    @property
    def percentage(self) -> float:
        """*current* of *total* in percent; zero when the total is unknown."""
        return min(100.0, 100.0 * self.current / self.total) if self.total else 0.0
