"""What workers do, without a worker: attempts of chosen tasks, straight through the ledger."""

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.ledger.attempts import Attempts
from callsheet.ledger.model import Task, Usage
from callsheet.ledger.store import Candidate
from callsheet.tasks.v1.ping_pb2 import PingOutput
from tests.support.ledgers import Cell


async def started(cell: Cell, task_id: str, *, worker: str = "worker-1") -> tuple[Attempts, Task]:
    """Start an attempt of that very task; return the worker's side and the task."""
    attempts = cell.attempts(worker)
    queue = (await attempts.read(task_id)).submission.queue
    claims = await attempts.claim(
        count=1, queues=(queue,), candidates=[Candidate(0, task_id)], device="cpu"
    )
    assert [task.id for task in claims.tasks] == [task_id], "the task was not ready"
    return attempts, claims.tasks[0]


async def succeeded(cell: Cell, task_id: str) -> Task:
    """Run the task to its end."""
    attempts, task = await started(cell, task_id)
    output = AnyMessage()
    output.Pack(PingOutput(echo="done"))
    return await attempts.succeed(
        task, attempt=task.attempt, output=output.SerializeToString(), usage=Usage()
    )


async def tossed(cell: Cell, task_id: str, *, times: int) -> None:
    """Start the task and give it back, so many times: two facts each."""
    for _ in range(times):
        attempts, task = await started(cell, task_id)
        await attempts.hand_back(task, attempt=task.attempt, reason="tossed")
