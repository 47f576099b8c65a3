"""The expirer: fails the tasks that waited too long."""

from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import machine
from callsheet.ledger.model import NO_TIME, TaskState
from callsheet.ledger.store import Commit
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks

PERIOD: Final = timedelta(milliseconds=500)
#: When a task is looked at again that was running when its time came: should its attempt come to
#: nothing, then it waits, and has waited too long.
RUNNING_REST: Final = timedelta(seconds=5)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Expirer:
    """Fails pending tasks whose time to wait is over; running ones may go on."""

    name = "expirer"

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._due = DueTasks(writer, writer.keys.expiring)

    async def run_once(self) -> timedelta:
        """Fail what has waited too long."""
        due = await self._due.look()
        stood = await self._due.apply([self._decide(found) for found in due.tasks])
        for found, stands in zip(due.tasks, stood, strict=True):
            if stands and found.task is not None and found.task.state is TaskState.PENDING:
                _log.info("task_expired", task_id=found.task_id)
        return PERIOD if due.is_all or not any(stood) else NO_TIME

    def _decide(self, found: DueTask) -> Commit:
        task = found.task
        if task is None or task.is_final:
            return found.dropped()
        if task.state is TaskState.RUNNING:
            return found.postponed(RUNNING_REST)
        event = machine.expire(task)
        operation = self._writer.ids.operation()
        return self._writer.commit(task.id, task, event, operation=operation)
