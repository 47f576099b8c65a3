"""What each REST route takes and answers, for the OpenAPI document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from callsheet.gateway.active_tasks import MOST
from callsheet.gateway.aliases_background import WORK
from callsheet.gateway.json_schemas import Schema, reference
from callsheet.gateway.media_kinds import KINDS, VIDEO_KINDS, MediaKind
from callsheet.gateway.rest_schemas import ANYTHING, TEXT, obj
from callsheet.v1.task_event_pb2 import TaskEvent

#: What a request's body, or an answer's, may be: a schema by media type.
Contents = Mapping[str, Schema]

JSON: Final = "application/json"
_BYTES: Final[Schema] = {"type": "string", "format": "binary"}
_NOTHING: Final[Contents] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    #: The part of the API it belongs to.
    tag: str
    #: The parameters of its query.
    query: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    #: The headers it reads besides the key.
    headers: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    body: Contents = field(default_factory=dict[str, Schema])
    body_required: bool = True
    #: Its answers by status, or by 2XX; a problem may come instead of any.
    answers: Mapping[int | str, Contents] = field(default_factory=dict[int | str, Contents])
    #: Whether it is refused in Connect's words.
    is_connect: bool = False
    #: Whether it is for anybody, without a key.
    public: bool = False


def _json(name: str) -> Contents:
    return {JSON: reference(name)}


def _uploaded(kinds: Iterable[MediaKind]) -> Contents:
    """Return a file of these kinds, as a form or as the body itself."""
    return {
        "multipart/form-data": obj({"file": _BYTES}),
        **{kind.media_type: _BYTES for kind in kinds},
    }


_PROJECT: Final[Schema] = {"type": "string", "maxLength": 64}
_LIMIT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MOST}
_IDEMPOTENCY: Final[Mapping[str, Schema]] = {
    "Idempotency-Key": {"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"}
}
#: One of the events that the stream consists of.
_EVENTS: Final = [field.name for field in TaskEvent.DESCRIPTOR.oneofs_by_name["event"].fields]
_EVENT: Final = obj({"event": {"enum": [*_EVENTS, "problem"]}, "data": TEXT}, {"id": TEXT})
_RANGE: Final[Mapping[str, Schema]] = {"Range": TEXT, "If-None-Match": TEXT}
_FILE: Final[Mapping[int | str, Contents]] = {
    200: {"*/*": _BYTES},
    206: {"*/*": _BYTES},
    304: _NOTHING,
}
_REASON: Final[Contents] = {JSON: obj({}, {"reason": {"type": "string", "maxLength": 512}})}
_REQUEST_ID: Final[Contents] = {
    JSON: obj({}, {"request_id": {"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"}})
}
_TASK: Final = "/api/v1/tasks/{task_id}"
_ARTIFACT: Final = f"{_TASK}/artifacts/{{name}}"
_SESSION: Final = "/api/v1/session"
_BACKGROUND: Final = "/api/background"

_TASKS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/api/v1/tasks/submit"): Operation(
        tag="tasks",
        headers=_IDEMPOTENCY,
        body=_json("SubmitTask"),
        answers={200: _json("SubmittedTask"), 202: _json("SubmittedTask")},
    ),
    ("GET", "/api/v1/tasks"): Operation(
        tag="tasks",
        query={
            "project_id": _PROJECT,
            "status": {"enum": ["queued", "processing", "completed", "failed"]},
            "state": {"enum": ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]},
            "task_type": {"type": "string", "maxLength": 64},
            "page_size": {"type": "integer", "minimum": 1, "maximum": 200},
            "page_token": {"type": "string", "maxLength": 512},
        },
        answers={200: _json("TaskPage")},
    ),
    ("GET", _TASK): Operation(tag="tasks", answers={200: _json("Task")}),
    ("POST", f"{_TASK}/cancel"): Operation(
        tag="tasks", body=_REASON, body_required=False, answers={200: _json("Task")}
    ),
    ("POST", f"{_TASK}/retry"): Operation(
        tag="tasks",
        headers=_IDEMPOTENCY,
        body=_REQUEST_ID,
        body_required=False,
        answers={202: _json("SubmittedTask")},
    ),
    ("GET", f"{_TASK}/events"): Operation(
        tag="tasks",
        query={"after": TEXT},
        headers={"Last-Event-ID": TEXT},
        answers={200: {"text/event-stream": _EVENT}, 204: _NOTHING},
    ),
}

_FILES: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", f"{_TASK}/artifacts"): Operation(tag="artifacts", answers={200: _json("ArtifactList")}),
    ("GET", _ARTIFACT): Operation(
        tag="artifacts", query={"download": TEXT}, headers=_RANGE, answers=_FILE
    ),
    ("POST", f"{_ARTIFACT}/link"): Operation(tag="artifacts", answers={200: _json("Link")}),
    ("GET", "/api/v1/artifacts/{key}"): Operation(
        tag="artifacts",
        query={"type": TEXT, "expires": TEXT, "signature": TEXT, "download": TEXT},
        headers=_RANGE,
        answers=_FILE,
        public=True,
    ),
    ("POST", "/api/v1/uploads"): Operation(
        tag="uploads",
        query={"project_id": _PROJECT},
        body=_uploaded(KINDS),
        answers={201: _json("Upload")},
    ),
    ("GET", "/api/v1/uploads/{name}"): Operation(
        tag="uploads",
        query={"project_id": _PROJECT, "download": TEXT},
        headers=_RANGE,
        answers=_FILE,
    ),
}

_SESSIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", _SESSION): Operation(
        tag="session", body=_json("SignIn"), answers={201: _json("Principal")}, public=True
    ),
    ("GET", _SESSION): Operation(tag="session", answers={200: _json("Principal")}),
    ("DELETE", _SESSION): Operation(tag="session", answers={204: _NOTHING}, public=True),
}

_VIDEO: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/task/{task_id}"): Operation(tag="video", answers={200: _json("VideoTask")}),
    ("DELETE", "/task/{task_id}"): Operation(tag="video", answers={200: _json("VideoTask")}),
    ("GET", "/tasks/active"): Operation(
        tag="video",
        query={"project_id": _PROJECT, "limit": _LIMIT},
        answers={200: _json("ActiveVideoTasks")},
    ),
    ("POST", "/upload-video"): Operation(
        tag="video",
        query={"project_id": _PROJECT},
        headers=_IDEMPOTENCY,
        body=_uploaded(VIDEO_KINDS),
        answers={202: _json("UploadedVideo")},
    ),
    ("GET", "/redis/status"): Operation(tag="video", answers={200: _json("RedisStatus")}),
    ("POST", "/redis/cache/clear"): Operation(tag="video", answers={200: _json("ClearedCache")}),
}

_BACKGROUND_WORK: Final[Mapping[tuple[str, str], Operation]] = {
    **{
        ("POST", f"{_BACKGROUND}/{path}"): Operation(
            tag="background",
            query={"project_id": _PROJECT},
            headers=_IDEMPOTENCY,
            body={JSON: ANYTHING},
            answers={202: _json("StartedTask")},
        )
        for path in WORK
    },
    ("GET", f"{_BACKGROUND}/status/{{task_id}}"): Operation(
        tag="background", answers={200: _json("BackgroundTask")}
    ),
    ("GET", f"{_BACKGROUND}/tasks/active"): Operation(
        tag="background",
        query={"project_id": _PROJECT, "limit": _LIMIT},
        answers={200: _json("ActiveBackgroundTasks")},
    ),
    ("DELETE", f"{_BACKGROUND}/tasks/{{task_id}}"): Operation(
        tag="background", answers={200: _json("BackgroundTask")}
    ),
    ("GET", f"{_BACKGROUND}/performance/overview"): Operation(
        tag="background",
        query={"window": {"enum": ["hour", "day"]}},
        answers={200: _json("PerformanceOverview")},
    ),
}

_HEALTH: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/health"): Operation(tag="health", answers={200: _json("Health")}, public=True),
    ("GET", "/ready"): Operation(
        tag="health", answers={200: _json("Readiness"), 503: _json("Readiness")}, public=True
    ),
}

#: Every operation whose shapes are known here; others are told of by their routes alone.
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = MappingProxyType(
    {**_TASKS, **_FILES, **_SESSIONS, **_VIDEO, **_BACKGROUND_WORK, **_HEALTH}
)
