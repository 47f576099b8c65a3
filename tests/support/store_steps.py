"""Steps on a store itself, below the ledger: submissions and claims."""

import itertools
from datetime import timedelta
from typing import Final

from callsheet.ledger import machine
from callsheet.ledger.codec import decode_task, start_template
from callsheet.ledger.instants import instant
from callsheet.ledger.model import Submission, Task
from callsheet.ledger.store import Applied, Candidate, Claim, Claimed
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.ledgers import LEASE, Cell

NOW: Final = timedelta(0)


def submission(priority: int = 5, *, delay: timedelta = NOW) -> Submission:
    """Return what is asked for by a ping."""
    spec = TaskSpec(ping=PingInput()).SerializeToString(deterministic=True)
    return Submission(
        project="default",
        task_type="ping",
        spec=spec,
        queue="system",
        priority=priority,
        max_attempts=3,
        time_limit=timedelta(seconds=60),
        delay=delay,
    )


#: Each claim that is no repeat has an operation of its own.
OPERATIONS = itertools.count(1_000)


async def submitted(
    plane: Cell, task_id: str, priority: int = 5, *, delay: timedelta = NOW
) -> Task:
    """Commit a submission, and return the task."""
    terms_of = submission(priority, delay=delay)
    commit = plane.writer.submission(task_id, terms_of)[1]
    (answer,) = await plane.store.commit([commit])
    assert isinstance(answer, Applied)
    time = instant(answer.time)
    return machine.evolve(None, machine.submit(terms_of), time=time, task_id=task_id)


def claim_of(
    *task_ids: str, count: int = 8, operation: int = 77, lease: timedelta = LEASE
) -> Claim:
    """Return a claim of these tasks; one of another operation is no repeat."""
    template = start_template(worker="w", device="cpu", lease=lease, operation=operation)
    return Claim(
        count=count,
        lease=lease,
        queues=("system",),
        window=8,
        template=template,
        operation=operation,
        candidates=tuple(Candidate(0, task_id) for task_id in task_ids),
    )


async def started(plane: Cell, task_id: str, *, lease: timedelta = LEASE) -> Task:
    """Claim the task by an operation of its own, and return it."""
    operation = next(OPERATIONS)
    claimed = await plane.store.claim(claim_of(task_id, operation=operation, lease=lease))
    return decode_task(claimed.started[0])


def ids(claimed: Claimed) -> list[str]:
    """Return who is ready next."""
    return [candidate.task_id for candidate in claimed.ready]
