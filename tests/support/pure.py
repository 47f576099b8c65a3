"""The machine alone as a ledger, and questions that the stateful test asks of all ledgers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

from callsheet.ledger import machine
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.codec import decode_task, start_template
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.events import Event
from callsheet.ledger.index import lease_member, parse_lease
from callsheet.ledger.instants import instant
from callsheet.ledger.model import (
    NO_TIME,
    Failure,
    FailureReason,
    Progress,
    RegisteredMedia,
    Submission,
    Task,
    TaskState,
    Usage,
)
from callsheet.ledger.store import Candidate, Claim, Claimed, Guard
from callsheet.ledger.writer import GuardFailed
from tests.support.ledgers import Cell
from tests.support.twins import IMPATIENT

QUEUE: Final = "system"
#: Later than any start, so that it is always the newest.
FUTURE: Final = instant(4_000_000_000_000_000)
MEDIA: Final = (RegisteredMedia("s3://films/a.png", "7"),)
LOST: Final = Failure(FailureReason.WORKER_LOST, "lost")


class Pure:
    """What the machine alone says: tasks, and what is known of their places."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.delayed = set[str]()
        #: Running tasks whose leases have expired.
        self.expired = set[str]()
        self.progress: dict[str, Progress] = {}
        self.logged: list[tuple[str, int]] = []

    def happen(self, task_id: str, event: Event) -> Task:
        """Fold the event into the task."""
        before = self.tasks.get(task_id)
        task = machine.evolve(before, event, time=FUTURE, task_id=task_id)
        self.tasks[task_id] = task
        self.delayed.discard(task_id)
        if task.ready_delay > NO_TIME and task.state is TaskState.PENDING:
            self.delayed.add(task_id)
        if task.state is not TaskState.RUNNING:
            self.expired.discard(task_id)
        self.logged.append((task_id, task.sequence))
        return task

    def decide(self, task_id: str, decide: Callable[[Task], Event | None]) -> Task | LedgerError:
        """Return the task after the decision, or the refusal."""
        try:
            event = decide(self.tasks[task_id])
        except LedgerError as refusal:
            return refusal
        return self.tasks[task_id] if event is None else self.happen(task_id, event)

    def logged_of(self, task_id: str) -> list[int]:
        """Return the sequences of the task's facts, in order; a request made anew begins anew."""
        return [sequence for of, sequence in self.logged if of == task_id]

    def is_ready(self, task_id: str) -> bool:
        """Whether a claim may take the task."""
        return self.tasks[task_id].state is TaskState.PENDING and task_id not in self.delayed


def submission_of(command: SubmitCommand) -> Submission:
    """Return the submission that the command makes."""
    kind = IMPATIENT["ping"]
    return Submission(
        project="default",
        task_type="ping",
        spec=command.spec,
        queue=kind.queue,
        priority=cast("int", command.priority),
        max_attempts=kind.max_attempts,
        time_limit=kind.time_limit,
        delay=command.delay,
        expire_after=command.expire_after,
    )


def claim_of(plane: Cell, candidates: list[str], *, count: int, lease: timedelta) -> Claim:
    """Return a claim of the candidates; it may be sent more than once."""
    operation = plane.writer.ids.operation()
    return Claim(
        count=count,
        lease=lease,
        queues=(QUEUE,),
        window=100,
        template=start_template(worker="w", device="cpu", lease=lease, operation=operation),
        operation=operation,
        candidates=tuple(Candidate(0, task_id) for task_id in candidates),
    )


def claimed_of(claimed: Claimed) -> tuple[list[Task], list[str]]:
    """Return the tasks whose attempts a claim started, and the ids that are ready next."""
    started = [decode_task(stored) for stored in claimed.started]
    return started, [candidate.task_id for candidate in claimed.ready]


def ending(end: str, attempt: int, failure: Failure) -> Callable[[Task], Event | None]:
    """Return how the machine decides the end of an attempt, or what is noted after it."""
    backoff = IMPATIENT["ping"].backoff
    match end:
        case "succeed":
            return lambda task: machine.succeed(task, attempt=attempt, output=b"", usage=Usage())
        case "fail":
            return lambda task: machine.fail(
                task, attempt=attempt, failure=failure, backoff=backoff, jitter=0.5
            )
        case "hand back":
            return lambda task: machine.hand_back(task, attempt=attempt, reason="later")
        case "register media":
            return lambda task: machine.register_media(task, MEDIA)
        case _:
            return lambda task: machine.confirm_cancel(task, attempt=attempt)


async def end_attempt(plane: Cell, task: Task, end: str, attempt: int, failure: Failure) -> Task:
    """Let a worker, or a sidecar, do what *ending* decides."""
    worker = plane.attempts("w")
    match end:
        case "succeed":
            return await worker.succeed(task, attempt=attempt, output=b"", usage=Usage())
        case "fail":
            return await worker.fail(task, attempt=attempt, failure=failure)
        case "hand back":
            return await worker.hand_back(task, attempt=attempt, reason="later")
        case "register media":
            return await plane.writer.change(task, ending(end, attempt, failure))
        case _:
            return await worker.confirm_cancel(task, attempt=attempt)


async def rescued(plane: Cell, member: str, time: int) -> Task | type[GuardFailed]:
    """Give up a lease that was expired at that time, unless it was renewed since."""
    task_id, attempt = parse_lease(member)
    assert member == lease_member(task_id, attempt)
    task = await plane.writer.read(task_id)
    guard = Guard(plane.keys.leases, member, time)
    try:
        return await plane.writer.change(task, ending("fail", attempt, LOST), guard=guard)
    except GuardFailed:
        return GuardFailed
