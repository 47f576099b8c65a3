"""What goes to a brain and what comes back: JSON objects going out, checked values coming in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta, Struct

EventName = Literal[
    "submitted",
    "started",
    "retrying",
    "returned",
    "cancel_requested",
    "succeeded",
    "failed",
    "cancelled",
    "media_registered",
    "context_retrieved",
]
Status = Literal["queued", "processing", "completed", "failed", "cancelled"]

Json = Mapping[str, object]


class ModelWrite(TypedDict):
    """The model that a task asked for or used."""

    name: str
    revision: NotRequired[str]


class ArtifactWrite(TypedDict):
    """A large output kept elsewhere."""

    uri: str
    sha256: str
    media_type: str
    size_bytes: int


class FailureWrite(TypedDict):
    """Why an attempt or a task failed."""

    reason: str
    message: str
    retryable: bool


class QualityWrite(TypedDict):
    """How good an output is by a named measure, from 0 to 1."""

    measure: str
    score: float
    parts: NotRequired[Mapping[str, float]]


class MediaWrite(TypedDict):
    """A document of the media library."""

    uri: str
    payload_media_id: str


class PassageWrite(TypedDict):
    """A piece of knowledge by its source, and how near it was in meaning."""

    source: str
    score: float


class SimilarTaskWrite(TypedDict):
    """A task by its id, and how near it was in meaning."""

    task_id: str
    score: float


class ContextWrite(TypedDict):
    """What an attempt was told of when it began: names and scores, and no text."""

    knowledge: list[PassageWrite]
    similar_tasks: list[SimilarTaskWrite]


class TaskEventWrite(TypedDict):
    """One fact of a task. Its key is (epoch, task_id, sequence); what does not apply is left out.

    *time* is RFC 3339 in UTC to the microsecond, *status* that of the task after the fact;
    *derived_from* is the task that it tries again, or whose output it uses again.
    """

    epoch: str
    task_id: str
    sequence: int
    project: str
    event: EventName
    status: Status
    time: str
    task_type: NotRequired[str]
    attempt: NotRequired[int]
    worker: NotRequired[str]
    device: NotRequired[str]
    text: NotRequired[str]
    spec: NotRequired[Json]
    model: NotRequired[ModelWrite]
    retry_of: NotRequired[str]
    derived_from: NotRequired[str]
    context: NotRequired[ContextWrite]
    output: NotRequired[Json]
    artifacts: NotRequired[list[ArtifactWrite]]
    failure: NotRequired[FailureWrite]
    usage: NotRequired[Json]
    quality: NotRequired[QualityWrite]
    media: NotRequired[list[MediaWrite]]
    metadata: NotRequired[Mapping[str, str]]


#: Of these facts a task takes one at most; store_task_result writes them.
FINAL_EVENTS: frozenset[EventName] = frozenset({"succeeded", "failed", "cancelled"})

Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[datetime, Meta(tz=True)]


class Written(Struct, frozen=True):
    """How many facts were new to the brain, and how many it had already."""

    written: Count
    repeated: Count = 0


class WrittenOne(Struct, frozen=True):
    """Whether the fact was new to the brain."""

    written: bool


class FailureMemory(Struct, frozen=True):
    """Why a task failed, as the brain remembers it."""

    reason: str
    message: str = ""
    retryable: bool = False


class QualityMemory(Struct, frozen=True):
    """How good an output was by a named measure."""

    measure: str
    score: float
    parts: Mapping[str, float] = {}


class TaskMemory(Struct, frozen=True):
    """A task as the brain remembers it; *score* says how similar it is, if that was asked."""

    task_id: str
    project: str = ""
    task_type: str = ""
    status: str = ""
    text: str = ""
    submit_time: Moment | None = None
    end_time: Moment | None = None
    artifacts: tuple[str, ...] = ()
    quality: QualityMemory | None = None
    failure: FailureMemory | None = None
    score: float | None = None


class TaskMemories(Struct, frozen=True):
    """Tasks in the order that was asked for."""

    tasks: tuple[TaskMemory, ...]


class Cached(Struct, frozen=True):
    """Until when a result is kept."""

    expire_time: Moment


class CachedResult(Struct, frozen=True):
    """A result that was kept, if one was *found*."""

    found: bool
    task_id: str = ""
    result: Mapping[str, object] = {}
    expire_time: Moment | None = None


class KnowledgeItem(Struct, frozen=True):
    """One thing a project knows, and how near it is in meaning."""

    text: str
    source: str = ""
    score: float = 0.0


class KnowledgeItems(Struct, frozen=True):
    """What a project knows, the nearest in meaning first."""

    items: tuple[KnowledgeItem, ...]


class Stored(Struct, frozen=True):
    """Whether a piece of knowledge was new."""

    stored: bool


class Health(Struct, frozen=True):
    """How the brain says it is."""

    status: str
    tasks: Count = 0
    events: Count = 0
    epoch_count: Count = 0
    version: str = ""
