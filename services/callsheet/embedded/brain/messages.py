"""What the brain's tools take and give: closed messages, each field with its limit."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from callsheet.embedded.brain.fields import (
    AnyObject,
    AttemptNumber,
    Epoch,
    Instant,
    JsonObject,
    Key,
    Limit,
    LongLimit,
    Name,
    Passage,
    Project,
    Sequence,
    SomeName,
    SomeText,
    TaskId,
    TaskType,
    Text,
    Uri,
)

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
StatusName = Literal["queued", "processing", "completed", "failed", "cancelled"]


class Closed(BaseModel):
    """A message with these fields and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Model(Closed):
    """A model that a task used."""

    name: SomeName
    revision: Name = ""


class ProducedArtifact(Closed):
    """A file that a task made."""

    uri: Uri
    sha256: Name = ""
    media_type: Name = ""
    size_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class TaskFailure(Closed):
    """Why a task, or one attempt of it, failed."""

    reason: SomeName
    message: Text = ""
    retryable: bool = False


class TaskQuality(Closed):
    """How good a result is, by a named measure."""

    measure: SomeName
    score: float | None = None
    parts: Annotated[dict[Name, float], Field(max_length=100)] = {}


class Media(Closed):
    """An artifact as the media collection knows it."""

    uri: Uri
    payload_media_id: Name


class NearPassage(Closed):
    """A passage by its source, and how near its meaning was."""

    source: Text
    score: float


class NearTask(Closed):
    """A task by its id, and how near its meaning was."""

    task_id: TaskId
    score: float


class RetrievedContext(Closed):
    """What an attempt was told of when it began."""

    knowledge: Annotated[list[NearPassage], Field(max_length=50)] = []
    similar_tasks: Annotated[list[NearTask], Field(max_length=50)] = []


class TaskEventWrite(Closed):
    """One event of a task; epoch, task_id and sequence make it the same event each time."""

    epoch: Epoch
    task_id: TaskId
    sequence: Sequence
    project: Project
    event: EventName
    status: StatusName
    time: Instant
    attempt: AttemptNumber = 0
    task_type: TaskType | None = None
    worker: Name | None = None
    device: Name | None = None
    text: Text | None = None
    spec: JsonObject | None = None
    model: Model | None = None
    retry_of: TaskId | Literal[""] | None = None
    derived_from: TaskId | Literal[""] | None = None
    context: RetrievedContext | None = None
    output: JsonObject | None = None
    artifacts: Annotated[list[ProducedArtifact], Field(max_length=1000)] | None = None
    failure: TaskFailure | None = None
    usage: JsonObject | None = None
    quality: TaskQuality | None = None
    media: Annotated[list[Media], Field(max_length=1000)] | None = None
    metadata: JsonObject | None = None


class StoreTaskEvents(Closed):
    """Events of any tasks, written in one transaction."""

    events: Annotated[list[TaskEventWrite], Field(min_length=1, max_length=500)]


class StoreTaskEvent(Closed):
    """One event."""

    event: TaskEventWrite


class GetTaskHistory(Closed):
    """The newest tasks of a project."""

    project: Project
    task_type: TaskType | None = None
    limit: LongLimit = 20


class SearchSimilarTasks(Closed):
    """The tasks of a project whose text means nearly the same."""

    project: Project
    text: SomeText
    task_type: TaskType | None = None
    status: StatusName | None = None
    limit: Limit = 10


class CacheTaskResult(Closed):
    """A result to be found again by its key, for a time."""

    project: Project
    key: Key
    task_id: TaskId
    result: JsonObject
    ttl_seconds: Annotated[float, Field(gt=0, le=366 * 86_400)]


class GetCachedResult(Closed):
    """The key of a result that may have been cached."""

    project: Project
    key: Key


class QueryKnowledge(Closed):
    """What a project knows that has to do with the text."""

    project: Project
    text: SomeText
    limit: Limit = 10


class StoreKnowledge(Closed):
    """A passage of what a project knows; a source has one, and a newer one replaces it."""

    project: Project
    source: Key
    text: Passage


class HealthCheck(Closed):
    """Nothing is asked."""


class EventsStored(Closed):
    """How many events were new, and how many were there already."""

    written: int
    repeated: int


class EventStored(Closed):
    """Whether the event was new."""

    written: bool


class TaskMemory(Closed):
    """What the brain remembers of one task; *score* from -1 to 1 tells how near its meaning is.

    Long texts are cut, and of many artifacts the first are named: it is to be found, not kept.
    """

    task_id: str
    project: str
    task_type: str
    status: str
    text: str
    submit_time: str
    end_time: str | None = None
    artifacts: list[str] = []
    quality: AnyObject | None = None
    failure: AnyObject | None = None
    score: float | None = None


class TasksFound(Closed):
    """The tasks that were asked for."""

    tasks: list[TaskMemory]


class ResultCached(Closed):
    """Until when the result is kept, unless room is needed."""

    expire_time: str


class CachedResult(Closed):
    """The cached result, if it is there."""

    found: bool
    task_id: str | None = None
    result: AnyObject | None = None
    expire_time: str | None = None


class KnowledgeItem(Closed):
    """A passage, and how near its meaning is."""

    source: str
    text: str
    score: float


class KnowledgeFound(Closed):
    """What the project knows, nearest first."""

    items: list[KnowledgeItem]


class KnowledgeStored(Closed):
    """Whether anything changed."""

    stored: bool


class Health(Closed):
    """How much the brain holds."""

    status: Literal["ok"]
    tasks: int
    events: int
    epoch_count: int
    version: str
