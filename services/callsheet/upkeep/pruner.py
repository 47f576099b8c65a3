"""The pruner: forgets final tasks after their retention."""

from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import index
from callsheet.ledger.store import Commit
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks

PERIOD: Final = timedelta(seconds=10)
#: Between two rounds of a backlog, so that those who wait for their tasks go first.
BACKLOG_REST: Final = timedelta(milliseconds=20)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Pruner:
    """Removes final tasks, facts and all, from the ledger."""

    name = "pruner"

    def __init__(self, writer: Writer) -> None:
        self._keys = writer.keys
        self._due = DueTasks(writer, writer.keys.final)

    async def run_once(self) -> timedelta:
        """Forget one round of what is past its retention."""
        due = await self._due.look()
        stood = await self._due.apply([self._decide(found) for found in due.tasks])
        if pruned := sum(stood):
            _log.info("tasks_pruned", count=pruned)
        return PERIOD if due.is_all or not pruned else BACKLOG_REST

    def _decide(self, found: DueTask) -> Commit:
        """Return the commit.

        Its guard tells this task from a new one that the same request_id made after somebody else
        had pruned it.
        """
        task = found.task
        if task is None or not task.is_final:
            return found.dropped()
        moves = index.prune_moves(self._keys, task)
        return Commit(task.id, expected=task.sequence, moves=moves, guard=found.guard)
