"""Decides and commits, and decides again when somebody was first."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from callsheet.ledger import index, machine
from callsheet.ledger.codec import UNSTAMPED, decode_task, encode_event, encode_task
from callsheet.ledger.errors import ConflictUnresolved, LedgerError, TaskNotFound
from callsheet.ledger.events import Event, TaskSubmitted
from callsheet.ledger.ids import Ids
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, span
from callsheet.ledger.model import Submission, Task
from callsheet.ledger.store import Applied, Commit, Guard, Refused, Store

#: How often a command is decided again; eight conflicts in a row were never measured.
TRIES: Final = 8

#: Looks at a task and says what happens to it; None: nothing needs to.
Decide = Callable[[Task], Event | None]


class GuardFailed(Exception):
    """The task is as it was, but the commit's guard no longer holds."""


class Writer:
    """Turns decisions into commits."""

    def __init__(self, store: Store, keys: Keys, ids: Ids, *, retention: timedelta) -> None:
        self.store = store
        self.keys = keys
        self.ids = ids
        #: How long a task is kept after its end, in microseconds.
        self.retention = span(retention)

    async def read(self, task_id: str) -> Task:
        """Return the task as it is. Raises TaskNotFound."""
        stored = (await self.store.read([task_id]))[0]
        if stored is None:
            raise TaskNotFound(task_id)
        return decode_task(stored)

    def submission(self, task_id: str, submission: Submission) -> tuple[Task, Commit]:
        """Return the task as it will be but for its times, and the commit that accepts it."""
        return self._evolved(
            task_id, None, machine.submit(submission), operation=self.ids.operation()
        )

    def reused(self, task: Task, source: Task) -> tuple[Task, Commit]:
        """Return a new task as it will be once answered with another one's output, and the commit.

        One commit of two facts: there is no moment at which the task waits.
        """
        operation = self.ids.operation()
        event = machine.reuse(task, source)
        after = machine.evolve(task, event, time=UNSTAMPED)
        submitted = machine.submit(task.submission)
        commit = Commit(
            task_id=task.id,
            expected=0,
            operation=operation,
            event=encode_event(submitted, operation=operation),
            second=encode_event(event, operation=operation),
            record=encode_task(after),
            moves=index.reused_moves(self.keys, after, source, retention=self.retention),
            admits=True,
        )
        return after, commit

    def commit(
        self,
        task_id: str,
        before: Task | None,
        event: Event,
        *,
        operation: int,
        guard: Guard | None = None,
        progress: bytes = b"",
    ) -> Commit:
        """Return the commit that makes the event happen to the task."""
        return self._evolved(
            task_id, before, event, operation=operation, guard=guard, progress=progress
        )[1]

    def _evolved(
        self,
        task_id: str,
        before: Task | None,
        event: Event,
        *,
        operation: int,
        guard: Guard | None = None,
        progress: bytes = b"",
    ) -> tuple[Task, Commit]:
        after = machine.evolve(before, event, time=UNSTAMPED, task_id=task_id)
        commit = Commit(
            task_id=task_id,
            expected=0 if before is None else before.sequence,
            operation=operation,
            event=encode_event(event, operation=operation),
            record=encode_task(after),
            moves=index.moves(self.keys, before, after, event, retention=self.retention),
            guard=guard,
            progress=progress,
            admits=isinstance(event, TaskSubmitted),
        )
        return after, commit

    async def change(
        self, task: Task, decide: Decide, *, guard: Guard | None = None, progress: bytes = b""
    ) -> Task:
        """Commit what *decide* says, with the newest progress if given; return the task after it.

        When somebody was first, the refusal carries the task as it is now: *decide* looks again.
        A refusal by *decide* stands only for the task as it is now, not for an older view of it.

        Raises:
            GuardFailed: the guard no longer holds.
            ConflictUnresolved: others were first, eight times in a row.
            LedgerError: whatever *decide* refuses with.
        """
        operation = self.ids.operation()
        for _ in range(TRIES):
            try:
                event = decide(task)
            except LedgerError:
                current = await self.read(task.id)
                if current.sequence == task.sequence:
                    raise
                task = current
                continue
            if event is None:
                return task
            commit = self.commit(
                task.id, task, event, operation=operation, guard=guard, progress=progress
            )
            match (await self.store.commit([commit]))[0]:
                case Applied(_, time):
                    return machine.evolve(task, event, time=instant(time))
                case Refused(None):
                    raise TaskNotFound(task.id)
                case Refused(stored) if stored is not None:
                    if guard is not None and stored.sequence == task.sequence:
                        raise GuardFailed
                    task = decode_task(stored)
                case _:
                    raise AssertionError("an answer is Applied or Refused")
        raise ConflictUnresolved(task.id, TRIES)
