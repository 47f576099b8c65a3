"""The rescuer: gives up the attempts whose leases have expired."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import machine
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.errors import LeaseLost
from callsheet.ledger.events import Event
from callsheet.ledger.index import parse_lease
from callsheet.ledger.log import Log
from callsheet.ledger.model import NO_TIME, Backoff, Failure, FailureReason, Task
from callsheet.ledger.store import Commit
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks
from callsheet.upkeep.hold_off import HoldOff

#: The longest rest between two looks.
PERIOD: Final = timedelta(milliseconds=500)
#: For a task type that this version does not know any more: a lost worker costs no wait anyway.
_NO_BACKOFF: Final = Backoff(NO_TIME, 1.0, NO_TIME)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Rescuer:
    """Ends attempts whose worker was lost: their tasks run again, or end."""

    name = "rescuer"

    def __init__(
        self,
        writer: Writer,
        log: Log,
        catalog: Mapping[str, TaskType],
        *,
        hold_off: HoldOff,
        lease: timedelta,
    ) -> None:
        self._writer = writer
        self._log = log
        self._catalog = catalog
        self._hold_off = hold_off
        # Several looks fit into the half lease that the hold-off takes for an outage.
        self._period = min(PERIOD, lease / 8)
        self._due = DueTasks(
            writer, writer.keys.leases, task_id_of=lambda member: parse_lease(member)[0]
        )

    async def run_once(self) -> timedelta:
        """Give up what has expired, unless an outage may be the reason."""
        due = await self._due.look()
        # Asked after the look: if it is the one we know, then it was the one that was looked at.
        instance = await self._log.instance()
        if not self._hold_off.is_over(now=due.time, instance=instance):
            return self._period
        decided = [self._decide(found) for found in due.tasks]
        stood = await self._due.apply([commit for commit, _ in decided])
        for found, (_, event), stands in zip(due.tasks, decided, stood, strict=True):
            if stands:
                _tell(found, event)
        return self._period if due.is_all or not any(stood) else NO_TIME

    def _decide(self, found: DueTask) -> tuple[Commit, Event | None]:
        """Return the commit; without an event it removes a lease that stands for nothing.

        The guard refuses when the lease was renewed, which the task's sequence would not show.
        """
        task = found.task
        if task is None:
            return found.dropped(), None
        _, attempt = parse_lease(found.member)
        try:
            event = self._lost(task, attempt)
        except LeaseLost:
            return found.dropped(), None
        operation = self._writer.ids.operation()
        commit = self._writer.commit(task.id, task, event, operation=operation, guard=found.guard)
        return commit, event

    def _lost(self, task: Task, attempt: int) -> Event:
        kind = self._catalog.get(task.submission.task_type)
        message = f"the worker {task.worker} was lost: it did not renew its lease"
        return machine.fail(
            task,
            attempt=attempt,
            failure=Failure(FailureReason.WORKER_LOST, message),
            backoff=_NO_BACKOFF if kind is None else kind.backoff,
            jitter=self._writer.ids.jitter(),
        )


def _tell(found: DueTask, event: Event | None) -> None:
    if event is None or found.task is None:
        _log.error("stale_lease_removed", task_id=found.task_id, lease=found.member)
        return
    _log.warning(
        "lease_expired",
        task_id=found.task_id,
        attempt=found.task.attempt,
        worker=found.task.worker,
        outcome=type(event).__name__,
    )
