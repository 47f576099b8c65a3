"""The body of a webhook, made from a task's facts alone: the same facts make the same bytes."""

import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, cast

from google.protobuf import json_format
from google.protobuf.message import Message

from callsheet.artifacts.references import artifacts_in, unpacked
from callsheet.ledger.model import FailureReason, Task, TaskState

#: What receivers call the states in which a task ends: (event, status).
_WORDS: Final[Mapping[TaskState, tuple[str, str]]] = MappingProxyType(
    {
        TaskState.SUCCEEDED: ("completed", "completed"),
        TaskState.FAILED: ("failed", "failed"),
        TaskState.CANCELLED: ("cancelled", "failed"),
    }
)

Json = Mapping[str, object]


def final_body(task: Task) -> bytes:
    """Return the body that tells of a final task.

    Raises:
        ValueError: the task is not final, or its output is of a type this version does not know.
    """
    if not task.is_final:
        raise ValueError(f"task {task.id} is {task.state.value}, not final")
    event, status = _WORDS[task.state]
    body: Json = {
        "task_id": task.id,
        "status": status,
        "project_id": task.submission.project,
        "result": _result(task) if task.state is TaskState.SUCCEEDED else None,
        "error": _error(task),
        "metadata": dict(sorted(task.submission.metadata.items())),
        "event": event,
        "sequence": task.sequence,
        "attempt": task.attempt,
        "occurred_at": _text(task.update_time),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _result(task: Task) -> Json:
    output = unpacked(task.output) if task.output else None
    artifacts = artifacts_in(output) if output is not None else iter(())
    started = task.start_time or task.update_time
    return {
        "media_url": next((artifact.uri for artifact in artifacts), None),
        "payload_media_id": None,
        "metadata": {
            "processing_time": (task.update_time - started).total_seconds(),
            "tokens_used": task.usage.tokens,
            "output_data": _as_json(output) if output is not None else {},
        },
    }


def _error(task: Task) -> Json | None:
    if task.state is TaskState.CANCELLED:
        told = f": {task.cancel_reason}" if task.cancel_reason else ""
        return {
            "reason": FailureReason.CANCELLED.value,
            "message": f"the task was cancelled{told}",
            "retryable": False,
        }
    if task.failure is None:
        return None
    return {
        "reason": task.failure.reason.value,
        "message": task.failure.message,
        "retryable": task.failure.retryable,
    }


def _as_json(message: Message) -> Json:
    """Return proto JSON with the contract's own names; maps in the order of their keys."""
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, sort_keys=True, indent=None
    )
    return cast("Json", json.loads(text))


def _text(moment: datetime) -> str:
    """Return the moment in RFC 3339, to the microsecond, in UTC."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
