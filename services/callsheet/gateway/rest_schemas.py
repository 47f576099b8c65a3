"""JSON schemas of what the REST routes take and answer, besides the contract's messages."""

from callsheet.client.access import ROLES
from callsheet.client.submission import CALLBACK_EVENTS, REUSE_MODES
from callsheet.client.task_types import task_types
from callsheet.gateway.json_schemas import ContractSchemas, Schema, reference
from callsheet.gateway.task_words import BACKGROUND, NAMES, PLATFORM, VIDEO, StatusWords
from callsheet.v1 import task_pb2

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
YES_NO: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
UUID: Schema = {"type": "string", "format": "uuid"}
ANYTHING: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}

_PROJECT: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$"}


def obj(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that has these fields, and no others."""
    found: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {**required, **(optional or {})},
    }
    return found | ({"required": list(required)} if required else {})


def or_null(schema: Schema) -> Schema:
    """Return the schema of a field that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def rest_schemas(contract: ContractSchemas) -> dict[str, Schema]:
    """Return the schemas by name; those of task inputs are kept by *contract*."""
    return {
        "Problem": _problem(),
        "ConnectError": obj({"code": TEXT, "message": TEXT}, {"details": list_of(ANYTHING)}),
        "SubmitTask": _submission(contract),
        "SubmittedTask": obj(
            {
                "task_id": UUID,
                "status": _status(PLATFORM),
                "project_id": _PROJECT,
                "task_type": TEXT,
                "monitor_url": TEXT,
                "events_url": TEXT,
                "retry_of": or_null(UUID),
            },
            {"outcome": {"enum": ["created", "repeated", "joined", "reused"]}},
        ),
        "Task": _task(),
        "TaskPage": obj(
            {
                "tasks": list_of(reference("TaskSummary")),
                "next_page_token": or_null(TEXT),
            }
        ),
        "TaskSummary": _summary(PLATFORM),
        "Progress": _progress(),
        "Result": _result(),
        "TaskError": obj({"reason": TEXT, "message": TEXT, "retryable": YES_NO}),
        "Artifact": _artifact(),
        "ArtifactList": obj({"artifacts": list_of(reference("Artifact"))}),
        "Link": obj({"url": TEXT, "expire_time": TIME}),
        "Upload": _upload(),
        "SignIn": obj(
            {"api_key": {"type": "string", "minLength": 1}},
            {
                "roles": list_of({"enum": list(ROLES)}) | {"maxItems": 8, "uniqueItems": True},
                "projects": list_of(_PROJECT) | {"maxItems": 16, "uniqueItems": True},
            },
        ),
        "Principal": _principal(),
        "UploadedVideo": obj({"task_id": UUID, "status": _status(VIDEO)}),
        "VideoTask": _small_task(VIDEO),
        "ActiveVideoTasks": _active(VIDEO),
        "BackgroundTask": _small_task(BACKGROUND),
        "ActiveBackgroundTasks": _active(BACKGROUND),
        "StartedTask": obj(
            {
                "task_id": UUID,
                "status": {"const": "started"},
                "message": TEXT,
                "monitor_url": TEXT,
            }
        ),
        "PerformanceOverview": _performance(),
        "RedisStatus": obj(
            {
                "status": {"enum": ["connected", "degraded"]},
                "roles": obj(dict.fromkeys(("queue_and_state", "sessions", "cache"), _redis())),
            }
        ),
        "Health": obj({"status": {"const": "live"}}, {"plane": ANYTHING}),
        "Readiness": obj({"status": {"enum": ["ready", "not_ready"]}}),
        "ClearedCache": obj({"status": {"const": "cleared"}, "cleared_keys": COUNT}),
    }


def _problem() -> Schema:
    violation = obj({"field": TEXT, "description": TEXT})
    return obj(
        {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": TEXT,
            "reason": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
            "violations": list_of(violation),
        },
        {"retry_after": {"type": "integer", "minimum": 1}},
    )


def _submission(contract: ContractSchemas) -> Schema:
    """Return one alternative for each task type: its names, and its input."""
    seconds: Schema = {"type": "number", "minimum": 0, "maximum": 2_592_000}
    common: dict[str, Schema] = {
        "project_id": or_null(_PROJECT),
        "callback_url": or_null({"type": "string", "format": "uri", "maxLength": 2048}),
        "callback_events": list_of({"enum": list(CALLBACK_EVENTS)}),
        "metadata": TEXTS | {"maxProperties": 32},
        "request_id": {"type": "string", "maxLength": 128, "pattern": "^[!-~]*$"},
        "priority": {"type": "integer", "minimum": 0, "maximum": 9},
        "delay_seconds": seconds,
        "expire_after_seconds": seconds | {"minimum": 1},
        "reuse": {"enum": list(REUSE_MODES)},
        "reuse_max_age_seconds": seconds,
    }
    kinds: list[Schema] = []
    for name, kind in task_types().items():
        names = [name, *(word for word, meant in NAMES.items() if meant == name and word != name)]
        data = contract.of(kind.input_class.DESCRIPTOR)  # pyright: ignore[reportArgumentType]  # upb's descriptors are the same, under another name
        kinds.append(obj({"task_type": {"enum": names}, "task_data": data}, common))
    return {"oneOf": kinds}


def _status(words: StatusWords) -> Schema:
    return {"enum": sorted({*words.values(), "unknown"})}


def _task() -> Schema:
    moments = ("create_time", "start_time", "end_time", "expire_time")
    states = [name.removeprefix("TASK_STATE_") for name in task_pb2.TaskState.keys()[1:]]
    return obj(
        {
            "task_id": UUID,
            "status": _status(PLATFORM),
            "project_id": _PROJECT,
            "task_type": TEXT,
            "result": or_null(reference("Result")),
            "error": or_null(reference("TaskError")),
            "metadata": TEXTS,
            "progress": or_null(reference("Progress")),
            "preview": or_null(reference("Artifact")),
            "artifacts": list_of(reference("Artifact")),
            "state": {"enum": states},
            "sequence": COUNT,
            "epoch": TEXT,
            "attempt": COUNT,
            "max_attempts": COUNT,
            "priority": COUNT,
            "queue": TEXT,
            "wait_reason": or_null(TEXT),
            "queue_position": or_null(COUNT),
            "cancel_requested": YES_NO,
            "retry_of": or_null(UUID),
            "reused_from": or_null(UUID),
            **{name: or_null(TIME) for name in moments},
            "task_data": or_null(ANYTHING),
        }
    )


def _summary(words: StatusWords) -> Schema:
    return obj(
        {
            "task_id": UUID,
            "status": _status(words),
            "project_id": _PROJECT,
            "task_type": TEXT,
            "queue": TEXT,
            "priority": COUNT,
            "progress": or_null(reference("Progress")),
            "create_time": or_null(TIME),
            "start_time": or_null(TIME),
            "end_time": or_null(TIME),
        }
    )


def _small_task(words: StatusWords) -> Schema:
    return obj(
        {
            "task_id": UUID,
            "status": _status(words),
            "result": or_null(reference("Result")),
            "error": or_null(reference("TaskError")),
            "progress": or_null(reference("Progress")),
        }
    )


def _active(words: StatusWords) -> Schema:
    return obj({"tasks": list_of(_summary(words)), "count": COUNT, "has_more": YES_NO})


def _progress() -> Schema:
    return obj(
        {
            "current": COUNT,
            "total": COUNT,
            "percentage": NUMBER,
            "message": TEXT,
            "updated_at": TIME,
        }
    )


def _result() -> Schema:
    return obj(
        {
            "media_url": or_null(TEXT),
            "payload_media_id": or_null(TEXT),
            "metadata": obj(
                {"processing_time": NUMBER, "tokens_used": COUNT, "output_data": ANYTHING}
            ),
        }
    )


def _artifact() -> Schema:
    return obj(
        {
            "name": TEXT,
            "url": TEXT,
            "uri": TEXT,
            "media_type": TEXT,
            "size_bytes": COUNT,
            "sha256": TEXT,
            "width": or_null(COUNT),
            "height": or_null(COUNT),
            "duration_seconds": or_null({"type": "number", "minimum": 0}),
            "frames": or_null(COUNT),
            "frame_rate": or_null({"type": "number", "minimum": 0}),
            "channels": or_null(COUNT),
            "sample_rate": or_null(COUNT),
            "video_codec": or_null(TEXT),
            "audio_codec": or_null(TEXT),
            "role": {
                "type": "string",
                "enum": ["result", "poster", "thumbnail", "provenance", "other"],
                "description": "What it is to the task: what was asked for, or what goes with it.",
            },
        }
    )


def _upload() -> Schema:
    return obj(
        {
            "name": TEXT,
            "project_id": _PROJECT,
            "uri": TEXT,
            "url": TEXT,
            "media_type": TEXT,
            "size_bytes": COUNT,
            "sha256": TEXT,
        }
    )


def _principal() -> Schema:
    return obj(
        {
            "key_id": TEXT,
            "projects": list_of(_PROJECT),
            "roles": list_of(TEXT),
            "expire_time": or_null(TIME),
            "session_end_time": or_null(TIME),
        }
    )


def _redis() -> Schema:
    """Return the schema of one role of Redis: more figures may be told."""
    status: Schema = {"enum": ["connected", "degraded", "away", "unknown"]}
    times: dict[str, Schema] = {name: or_null(TIME) for name in ("since", "checked")}
    shown = obj({"status": status}, {"reason": or_null(TEXT), **times})
    return {**shown, "additionalProperties": or_null({"type": ["string", "integer"]})}


def _performance() -> Schema:
    measures: dict[str, Schema] = {
        **dict.fromkeys(("submitted", "succeeded", "failed", "cancelled", "retries"), COUNT),
        **dict.fromkeys(
            ("success_rate", "failure_rate", "average_runtime", "max_runtime"), or_null(NUMBER)
        ),
    }
    queue: dict[str, Schema] = {
        "queue": TEXT,
        "depth": COUNT,
        "mean_depth": NUMBER,
        "max_depth": COUNT,
        "worker_use": NUMBER,
    }
    return obj(
        {
            "task_types": list_of(obj({"task_type": TEXT, "queue": TEXT, **measures})),
            "queues": list_of(obj({**queue, **measures})),
            "start_time": TIME,
            "end_time": TIME,
        }
    )
