"""The scheduler: makes delayed tasks ready when their time has come."""

from datetime import timedelta
from typing import Final

from callsheet.ledger import index
from callsheet.ledger.instants import MICROSECOND
from callsheet.ledger.model import NO_TIME, TaskState
from callsheet.ledger.store import Commit
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks

#: The longest rest: a task delayed meanwhile by somebody else may be due before that.
PERIOD: Final = timedelta(milliseconds=500)
#: The shortest one, so that many tasks due one after the other share a look.
SHORTEST: Final = timedelta(milliseconds=5)


class Scheduler:
    """Moves tasks from the delayed set to their ready sets. It takes no sequence and no event."""

    name = "scheduler"

    def __init__(self, writer: Writer) -> None:
        self._keys = writer.keys
        self._due = DueTasks(writer, writer.keys.delayed)

    async def run_once(self) -> timedelta:
        """Make ready what is due; rest until the next one is."""
        due = await self._due.look()
        stood = await self._due.apply([self._decide(found) for found in due.tasks])
        if not due.is_all:
            return NO_TIME if any(stood) else PERIOD
        following = await self._due.next_time()
        if following is None:
            return PERIOD
        return min(PERIOD, max(SHORTEST, (following - due.time) * MICROSECOND))

    def _decide(self, found: DueTask) -> Commit:
        """Return the commit; the sequence expected keeps a task cancelled meanwhile away."""
        task = found.task
        if task is None or task.state is not TaskState.PENDING:
            return found.dropped()
        moves = index.due_moves(self._keys, task)
        return Commit(task.id, expected=task.sequence, moves=moves, guard=found.guard)
