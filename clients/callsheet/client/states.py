"""Which states and events end a task's life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callsheet.v1 import task_pb2

if TYPE_CHECKING:
    from callsheet.v1 import task_event_pb2

#: The states without a next one.
FINAL_STATES: Final = frozenset(
    {
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
    }
)

_FINAL_EVENTS: Final = frozenset({"task_succeeded", "task_failed", "task_cancelled"})
_SIGNALS: Final = frozenset({"progress"})


def is_final(task: task_pb2.Task) -> bool:
    """Return whether the task has ended."""
    return task.state in FINAL_STATES


def is_final_event(event: task_event_pb2.TaskEvent) -> bool:
    """Return whether the event ends its task."""
    return event.WhichOneof("event") in _FINAL_EVENTS


def is_signal(event: task_event_pb2.TaskEvent) -> bool:
    """Return whether the event is a signal, of which only the newest counts."""
    return event.WhichOneof("event") in _SIGNALS


def state_word(task: task_pb2.Task) -> str:
    """Return a task's state as a word, such as RUNNING; a newer one as its number."""
    try:
        name = task_pb2.TaskState.Name(task.state)
    except ValueError:
        return f"STATE_{task.state}"
    return name.removeprefix("TASK_STATE_")
