"""Webhooks and media that are owed: tasks whose facts a sidecar still needs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from callsheet.ledger.instants import microseconds, span
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.log import Log
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.position import Position

#: The sidecar's cursor in the log.
READER: Final = "sidecar"


class OwedMedia:
    """Tells of which final tasks media are still to be registered.

    The tries have an end, but only while there are sidecars that make them: *patience* is how long
    after its end a task is kept for them.
    """

    def __init__(self, work: MediaWork, *, patience: timedelta) -> None:
        self._work = work
        self._patience = patience

    async def of(self, tasks: Sequence[Task], *, now: int) -> set[str]:
        """Return the ids of tasks that wait for a try; *now* is the ledger's time."""
        since = now - span(self._patience)
        asked = [
            task.id
            for task in tasks
            if task.state is TaskState.SUCCEEDED
            and task.end_time is not None
            and microseconds(task.end_time) > since
        ]
        return await self._work.waiting(asked)


class OwedWebhooks:
    """Tells which final tasks a webhook is still to be made of."""

    def __init__(self, kept: KeptDeliveries, log: Log) -> None:
        self._kept = kept
        self._log = log

    async def of(self, tasks: Sequence[Task]) -> set[str]:
        """Return the ids of tasks with a delivery that waits, or that no sidecar has read yet.

        Where no sidecar ever ran nothing is unread: nobody will tell of it.
        """
        asked = [task for task in tasks if task.submission.callback_url]
        if not asked:
            return set()
        owed = await self._kept.waiting([task.id for task in asked])
        cursor = (await self._log.cursors()).get(READER)
        if cursor is None:
            return owed
        try:
            read_until = Position.parse(cursor).time
        except ValueError:  # the log trimmer tells of it; until it is mended nothing was read
            return {task.id for task in asked}
        unread = (task.id for task in asked if microseconds(task.update_time) // 1000 > read_until)
        return owed.union(unread)
