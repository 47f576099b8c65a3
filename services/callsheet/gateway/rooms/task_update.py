"""What is told of a task: an event of the contract, as a TASK_UPDATE."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from callsheet.client.states import is_final_event, is_signal
from callsheet.gateway.rooms.envelope import encode
from callsheet.gateway.task_views import event_view, time_text
from callsheet.v1.task_event_pb2 import TaskEvent

#: The task's status after each event, in the words of webhooks.
STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "task_submitted": "queued",
        "attempt_started": "processing",
        "attempt_failed": "queued",
        "attempt_returned": "queued",
        "cancel_requested": "processing",
        "context_retrieved": "processing",
        "checkpoint_saved": "processing",
        "progress": "processing",
        "task_succeeded": "completed",
        "media_registered": "completed",
        "task_failed": "failed",
        "task_cancelled": "failed",
    }
)


def task_update(event: TaskEvent, *, project: str, room: str, cursor: str = "") -> str:
    """Return the envelope that tells of an event.

    In the room of its task a fact has its sequence; in that of its project it has the cursor.
    A signal has neither, but its data has the sequence of the fact before it.
    """
    signal = is_signal(event)
    said = {
        **event_view(event),
        "status": STATUSES.get(event.WhichOneof("event") or "", "unknown"),
        "final": is_final_event(event),
    }
    return encode(
        "TASK_UPDATE",
        project=project,
        room=room,
        sequence=None if signal or cursor else event.sequence,
        epoch="" if signal else event.epoch,
        cursor=cursor,
        time=time_text(event.time) if event.HasField("time") else "",
        signal=signal,
        data=said,
    )
