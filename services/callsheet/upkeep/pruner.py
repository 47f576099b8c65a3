"""The pruner: forgets final tasks after their retention."""

from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import index
from callsheet.ledger.store import Commit
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks
from callsheet.upkeep.owed import OwedWebhooks

PERIOD: Final = timedelta(seconds=10)
#: Between two rounds of a backlog, so that those who wait for their tasks go first.
BACKLOG_REST: Final = timedelta(milliseconds=20)
#: When a task is looked at again whose webhook is not delivered yet.
OWED_REST: Final = timedelta(minutes=10)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Pruner:
    """Removes final tasks, facts and all, from the ledger.

    *owed* says whose facts somebody still needs: they are looked at again later.
    """

    name = "pruner"

    def __init__(self, writer: Writer, owed: OwedWebhooks | None = None) -> None:
        self._keys = writer.keys
        self._due = DueTasks(writer, writer.keys.final)
        self._owed = owed

    async def run_once(self) -> timedelta:
        """Forget one round of what is past its retention."""
        due = await self._due.look()
        final = [found.task for found in due.tasks if found.task and found.task.is_final]
        owed = await self._owed.of(final) if self._owed else set[str]()
        stood = await self._due.apply([self._decide(found, owed) for found in due.tasks])
        pruned = sum(
            stands
            for stands, found in zip(stood, due.tasks, strict=True)
            if found.task_id not in owed
        )
        if pruned:
            _log.info("tasks_pruned", count=pruned)
        if owed:
            _log.info("tasks_kept_for_webhooks", count=len(owed))
        return PERIOD if due.is_all or not any(stood) else BACKLOG_REST

    def _decide(self, found: DueTask, owed: set[str]) -> Commit:
        """Return the commit.

        Its guard tells this task from a new one that the same request_id made after somebody else
        had pruned it.
        """
        task = found.task
        if task is None or not task.is_final:
            return found.dropped()
        if task.id in owed:
            return found.postponed(OWED_REST)
        moves = index.prune_moves(self._keys, task)
        return Commit(task.id, expected=task.sequence, moves=moves, guard=found.guard)
