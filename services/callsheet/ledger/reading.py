"""A task as it is, read from what is stored."""

from dataclasses import dataclass

from callsheet.ledger.codec import decode_task, parse_signal, progress_of
from callsheet.ledger.model import Progress, Task
from callsheet.ledger.store import Stored


@dataclass(frozen=True, slots=True)
class Reading:
    """A task as it is, with the newest progress anybody reported."""

    task: Task
    progress: Progress | None


def reading_of(stored: Stored) -> Reading:
    """Return the task and its progress. Raises UnknownVersion."""
    progress = progress_of(parse_signal(stored.progress)) if stored.progress else None
    task = decode_task(stored)
    # A new attempt starts from nothing: an older attempt's progress says nothing of it.
    if progress is not None and task.start_time and progress.update_time < task.start_time:
        progress = None
    return Reading(task, progress)
