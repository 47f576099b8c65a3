"""Looks at the store after every step: what must always hold, holds."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger import machine
from callsheet.ledger.codec import decode_task, event_of, parse_event
from callsheet.ledger.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    Event,
    TaskFailed,
    TaskSucceeded,
)
from callsheet.ledger.index import Keys, lease_member
from callsheet.ledger.instants import instant
from callsheet.ledger.memory_store import MemoryCell
from callsheet.ledger.model import Failure, FailureReason, Task, TaskState
from callsheet.ledger.store import Stored
from tests.chaos.schedule.clockwork import Process

_LOST: Final = frozenset({FailureReason.WORKER_LOST, FailureReason.POISON})


@dataclass
class Acknowledged:
    """What clients and workers were told, and when."""

    #: Task ids by request.
    requests: dict[str, str] = field(default_factory=dict[str, str])
    #: When a task's cancellation was acknowledged while it ran.
    cancels: dict[str, int] = field(default_factory=dict[str, int])


class Judge:
    """Follows the log, and compares it with the records and indexes."""

    def __init__(
        self,
        cell: MemoryCell,
        keys: Keys,
        told: Acknowledged,
        processes: dict[str, Process],
        *,
        lease: int,
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.forgotten: set[str] = set()
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._cell = cell
        self._keys = keys
        self._told = told
        self._processes = processes
        self._lease = lease
        self._read = 0
        #: The leases as they were before the last step.
        self._leases: dict[str, int] = {}

    def look(self) -> None:
        """Check what the last step did."""
        entries, self._read = self._cell.log[self._read :], len(self._cell.log)
        for entry in entries:
            self._follow(entry.task_id, parse_event(entry.event))
        for task_id in {entry.task_id for entry in entries}:
            self._compare(task_id)
        if len(self._cell.tasks) < len(self.tasks):
            self._note_forgotten()
        self._leases = dict(self._cell.sets[self._keys.leases])

    def look_at_all(self) -> None:
        """Check every task that is kept, and that nothing else is in the indexes."""
        for task_id in self.tasks:
            self._compare(task_id)
        running = {
            lease_member(task.id, task.attempt)
            for task in self.tasks.values()
            if task.state is TaskState.RUNNING
        }
        assert set(self._cell.sets[self._keys.leases]) == running
        for task_id in self._told.requests.values():
            assert task_id in self.tasks or task_id in self.forgotten, "an accepted task is lost"

    def hear_that_it_was_lost(self, task_id: str, output: bytes) -> None:
        """Check what a worker was told of its attempt, which had this output."""
        task = self.tasks.get(task_id)
        is_its_own = task is not None and task.output == output
        assert not is_its_own, "a worker was told that its result does not count, and it does"

    def _follow(self, task_id: str, record: EventRecord) -> None:
        """Fold the fact; it follows the one before, and the rules allow it."""
        before = self.tasks.get(task_id)
        event, time = event_of(record), instant(record.time)
        assert record.sequence == (before.sequence if before else 0) + 1, "a fact is missing"
        self.counts[type(event).__name__] += 1
        if before is not None:
            assert not before.is_final, "final is final"
            self._check_fence(before, event, record.time)
        after = machine.evolve(before, event, time=time, task_id=task_id)
        self.tasks[task_id] = after
        if after.is_final and after.cancel_requested:
            assert after.state is TaskState.CANCELLED, "a cancel request was acknowledged"
        limit = after.submission.max_attempts
        assert after.failures <= limit - (not after.is_final), "failures are bounded"

    def _check_fence(self, before: Task, event: Event, time: int) -> None:
        """Only the attempt in force ends; and it is lost only by its worker's own fault."""
        match event:
            case AttemptStarted(attempt):
                assert before.state is TaskState.PENDING
                assert attempt == before.attempt + 1
            case AttemptFailed(attempt, failure):
                self._check_ended(before, attempt, failure, time)
            case TaskFailed(attempt, failure) if before.state is TaskState.RUNNING:
                self._check_ended(before, attempt, failure, time)
            case AttemptReturned(attempt):
                self._check_ended(before, attempt, None, time)
            case TaskSucceeded(attempt, output):
                self._check_ended(before, attempt, None, time)
                assert output == output_of(before.worker, attempt), "a zombie's result counts"
            case _:
                return

    def _check_ended(self, before: Task, attempt: int, failure: Failure | None, time: int) -> None:
        assert before.state is TaskState.RUNNING, "what does not run cannot end"
        assert attempt == before.attempt, "a worker without the lease wrote"
        if failure is not None and failure.reason in _LOST:
            self._check_lost(before, time)

    def _check_lost(self, task: Task, time: int) -> None:
        """An outage of the server, or a busy network, costs nobody an attempt."""
        worker = self._processes[task.worker]
        self.counts["lost"] += 1
        ends = self._leases[lease_member(task.id, task.attempt)]
        assert ends <= time, "a lease in force was taken away"
        assert worker.was_away(time - 2 * self._lease, time), f"{worker} was there"

    def _compare(self, task_id: str) -> None:
        """The record is what the facts fold to, and the task stands where it should."""
        task = self.tasks[task_id]
        fields = self._cell.tasks.get(task_id)
        if fields is None:
            assert task.is_final, "a task is gone that had not ended"
            return
        last = fields[fields["q"].decode()]
        stored = Stored(task_id, int(fields["q"]), fields["r"], fields["1"], last)
        assert decode_task(stored) == task, "fold and record differ"
        sets, keys = self._cell.sets, self._keys
        waits = task.state is TaskState.PENDING
        places = (sets[keys.ready(task.submission.queue)], sets[keys.delayed])
        assert sum(task_id in place for place in places) == waits, "it waits in one place"
        is_leased = lease_member(task_id, task.attempt) in sets[keys.leases]
        assert is_leased is (task.state is TaskState.RUNNING)
        assert (task_id in sets[keys.final]) is task.is_final
        assert (task_id in sets[keys.project_live("default")]) is not task.is_final

    def _note_forgotten(self) -> None:
        gone = [task_id for task_id in self.tasks if task_id not in self._cell.tasks]
        for task_id in gone:
            assert self.tasks.pop(task_id).is_final, "a task is gone that had not ended"
            self.forgotten.add(task_id)


def output_of(worker: str, attempt: int) -> bytes:
    """Return the output that only this worker's attempt has."""
    packed = AnyMessage(type_url="type.example/words", value=f"{worker}/{attempt}".encode())
    return packed.SerializeToString(deterministic=True)
