"""Steps of the machine, for tests of its rules: tasks and what happens to them."""

from datetime import UTC, datetime, timedelta

from callsheet.ledger import machine
from callsheet.ledger.events import Event
from callsheet.ledger.model import Backoff, Failure, FailureReason, Submission, Task

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=15)
BACKOFF = Backoff(timedelta(seconds=10), 2.0, timedelta(seconds=60))
SUBMISSION = Submission(
    project="default",
    task_type="ping",
    spec=b"",
    queue="system",
    priority=5,
    max_attempts=3,
    time_limit=timedelta(seconds=60),
)


def pending() -> Task:
    """Return a task that was just accepted."""
    return machine.evolve(None, machine.submit(SUBMISSION), time=NOON, task_id="t-1")


def after(task: Task, event: Event | None) -> Task:
    """Return the task after the fact, which there must be."""
    assert event is not None
    return machine.evolve(task, event, time=NOON)


def started(task: Task) -> Task:
    """Return the task with another attempt running."""
    return after(task, machine.start(task, worker="w", device="cpu", lease=LEASE))


def failed(task: Task, reason: FailureReason, jitter: float = 0.5) -> Event:
    """Return what follows when the running attempt fails."""
    failure = Failure(reason, "because")
    return machine.fail(task, attempt=task.attempt, failure=failure, backoff=BACKOFF, jitter=jitter)
