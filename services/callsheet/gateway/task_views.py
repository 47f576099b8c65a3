"""Tasks and events as the REST routes show them."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, cast

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.artifacts.references import artifacts_in
from callsheet.client.errors import Unimplemented, failure_reason
from callsheet.client.states import state_word
from callsheet.client.task_types import unpack
from callsheet.gateway.task_words import PLATFORM, StatusWords, status_word
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_POSTER,
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    ARTIFACT_ROLE_UNSPECIFIED,
    Artifact,
)
from callsheet.v1 import task_event_pb2, task_pb2

Json = dict[str, object]


def message_json(message: Message) -> Json:
    """Return a message in the contract's own names; an Any of an unknown type by its name alone."""
    to_json = partial(json_format.MessageToDict, preserving_proto_field_name=True)
    try:
        return cast("Json", to_json(message))
    except (TypeError, KeyError):
        return {}


def task_view(task: task_pb2.Task) -> Json:
    """Return a task as `GET /api/v1/tasks/{id}` shows it: the webhook's fields, and more."""
    return {
        "task_id": task.id,
        "status": status_word(task, PLATFORM),
        "project_id": task.project,
        "task_type": task.task_type,
        "result": result_view(task),
        "error": error_view(task),
        "metadata": dict(sorted(task.metadata.items())),
        "progress": progress_view(task),
        "preview": preview_view(task),
        "artifacts": [artifact_view(task, each) for each in artifacts_of(task)],
        "state": state_word(task),
        "sequence": task.sequence,
        "epoch": task.epoch,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "priority": task.priority,
        "queue": task.queue,
        "wait_reason": _wait_reason(task),
        "queue_position": task.queue_position if task.HasField("queue_position") else None,
        "cancel_requested": task.cancel_requested,
        "retry_of": task.retry_of or None,
        "reused_from": task.reused_from or None,
        "create_time": _time(task, "create_time"),
        "start_time": _time(task, "start_time"),
        "end_time": _time(task, "end_time"),
        "expire_time": _time(task, "expire_time"),
        "task_data": _input(task),
    }


def brief_view(task: task_pb2.Task, words: StatusWords = PLATFORM) -> Json:
    """Return what a list tells of a task."""
    return {
        "task_id": task.id,
        "status": status_word(task, words),
        "project_id": task.project,
        "task_type": task.task_type,
        "queue": task.queue,
        "priority": task.priority,
        "progress": progress_view(task),
        "create_time": _time(task, "create_time"),
        "start_time": _time(task, "start_time"),
        "end_time": _time(task, "end_time"),
    }


def result_view(task: task_pb2.Task) -> Json | None:
    """Return what became of a task that succeeded, as webhooks tell it; None: it has not."""
    if task.state != task_pb2.TASK_STATE_SUCCEEDED:
        return None
    artifact = next(iter(artifacts_of(task)), None)
    started, ended = task.start_time, task.end_time
    spent = ended.ToNanoseconds() - started.ToNanoseconds() if task.HasField("start_time") else 0
    return {
        "media_url": None if artifact is None else artifact.uri,
        "payload_media_id": None if artifact is None else _media_id(task, artifact.uri),
        "metadata": {
            "processing_time": spent / 1e9,
            "tokens_used": task.usage.tokens,
            "output_data": _output(task.output),
        },
    }


def error_view(task: task_pb2.Task) -> Json | None:
    """Return why a task failed or was stopped, as webhooks tell it; None: neither."""
    match task.state:
        case task_pb2.TASK_STATE_FAILED:
            return {
                "reason": failure_reason(task.failure),
                "message": task.failure.message,
                "retryable": task.failure.retryable,
            }
        case task_pb2.TASK_STATE_CANCELLED:
            because = f": {task.cancel_reason}" if task.cancel_reason else ""
            return {
                "reason": "CANCELLED",
                "message": f"the task was cancelled{because}",
                "retryable": False,
            }
        case _:
            return None


def progress_view(task: task_pb2.Task) -> Json | None:
    """Return the latest progress; None: none was reported."""
    if not task.HasField("progress"):
        return None
    progress = task.progress
    return {
        "current": progress.current,
        "total": progress.total,
        "percentage": round(progress.percentage, 2),
        "message": progress.message,
        "updated_at": time_text(progress.update_time),
    }


#: The numbers of an artifact that has them.
_Measure = Literal["width", "height", "frames", "frame_rate", "channels", "sample_rate"]
_MEASURES: Final[tuple[_Measure, ...]] = (
    "width",
    "height",
    "frames",
    "frame_rate",
    "channels",
    "sample_rate",
)
#: What an artifact is to its task; a role that is newer than this gateway is `other`.
_ROLES: Final[Mapping[int, str]] = MappingProxyType(
    {
        ARTIFACT_ROLE_UNSPECIFIED: "result",
        ARTIFACT_ROLE_POSTER: "poster",
        ARTIFACT_ROLE_THUMBNAIL: "thumbnail",
        ARTIFACT_ROLE_PROVENANCE: "provenance",
    }
)


def preview_view(task: task_pb2.Task) -> Json | None:
    """Return the picture of what a running attempt is making; None: it shows none."""
    shown = task.progress
    return artifact_view(task, shown.preview) if shown.HasField("preview") else None


def artifact_view(task: task_pb2.Task, artifact: Artifact) -> Json:
    """Return an artifact, and where the gateway serves it."""
    return {
        "name": artifact_name(artifact),
        "url": f"/api/v1/tasks/{task.id}/artifacts/{artifact_name(artifact)}",
        "uri": artifact.uri,
        "media_type": artifact.media_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "duration_seconds": artifact.duration.ToTimedelta().total_seconds()
        if artifact.HasField("duration")
        else None,
        **{name: _set_or_none(artifact, name) for name in _MEASURES},
        "video_codec": artifact.video_codec or None,
        "audio_codec": artifact.audio_codec or None,
        "role": _ROLES.get(artifact.role, "other"),
    }


def _set_or_none(artifact: Artifact, name: _Measure) -> object:
    return getattr(artifact, name) if artifact.HasField(name) else None


def artifacts_of(task: task_pb2.Task) -> list[Artifact]:
    """Return the artifacts that a task's output refers to."""
    if not task.HasField("output"):
        return []
    try:
        return list(artifacts_in(unpack(task.output)))
    except (Unimplemented, ValueError):
        return []  # an output that is newer than this gateway


def artifact_name(artifact: Artifact) -> str:
    """Return the artifact's name within its task: attempt, digest and suffix."""
    return artifact.key.rpartition("/")[2]


def event_view(event: task_event_pb2.TaskEvent) -> Json:
    """Return what happened to a task."""
    return {
        **message_json(event),
        "event": event.WhichOneof("event"),
        "sequence": event.sequence,  # proto JSON has texts for numbers of 64 bits
    }


def time_text(moment: Timestamp) -> str:
    """Return the moment in RFC 3339, to the microsecond, in UTC."""
    text = moment.ToDatetime().isoformat(timespec="microseconds")
    return f"{text}Z"


def _time(task: task_pb2.Task, name: str) -> str | None:
    return time_text(getattr(task, name)) if task.HasField(name) else None  # pyright: ignore[reportArgumentType]  # the name is one of the message's fields


def _input(task: task_pb2.Task) -> Json | None:
    name = task.spec.WhichOneof("input")
    return None if name is None else message_json(getattr(task.spec, name))


def _output(packed: PackedMessage) -> Mapping[str, object]:
    try:
        return message_json(unpack(packed)) if packed.type_url else {}
    except Unimplemented:
        return {}  # newer than this gateway


def _media_id(task: task_pb2.Task, uri: str) -> str | None:
    return next((each.payload_media_id for each in task.media if each.uri == uri), None)


def _wait_reason(task: task_pb2.Task) -> str | None:
    if not task.wait_reason:
        return None
    try:
        name = task_pb2.WaitReason.Name(task.wait_reason)
    except ValueError:
        return None  # newer than this gateway
    return name.removeprefix("WAIT_REASON_")
