"""Webhooks that are owed: tasks whose facts a sidecar still needs."""

from collections.abc import Sequence
from typing import Final

from callsheet.ledger.instants import microseconds
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.log import Log
from callsheet.ledger.model import Task
from callsheet.upkeep.position import Position

#: The sidecar's cursor in the log.
READER: Final = "sidecar"


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
