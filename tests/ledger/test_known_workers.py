"""Who is alive, for whoever asks often; and what that is for a task that needs more memory."""

from datetime import timedelta

import pytest

from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.model import Failure, FailureReason, Task, TaskState
from callsheet.v1.operations_service_pb2 import Worker
from tests.support.alive import GB, gpu_worker, heard
from tests.support.ledgers import Cell, memory_cell
from tests.support.reusing import image, made
from tests.support.work import started


async def names(known: KnownWorkers, *, afresh: bool = False) -> list[str]:
    """Return the ids of the workers that are known."""
    found = await known.look(afresh=afresh)
    assert found is not None
    return [worker.id for worker in found]


async def test_what_was_read_is_good_for_a_while() -> None:
    cell = memory_cell()
    known, impatient = (
        KnownWorkers(cell.registry, good_for=timedelta(seconds=seconds)) for seconds in (60, -1)
    )
    await heard(cell.registry, gpu_worker("a"))
    assert await names(known) == await names(impatient) == ["a"]
    await heard(cell.registry, gpu_worker("b"))
    assert await names(known) == ["a"]
    assert await names(impatient) == ["a", "b"]
    assert await names(known, afresh=True) == ["a", "b"]


async def test_a_registry_that_cannot_be_read_tells_of_nobody_and_not_that_there_is_nobody() -> (
    None
):
    cell = memory_cell()
    known = KnownWorkers(cell.registry)
    await cell.registry.heartbeat("odd", b"\x08\x63")  # of a version nobody knows
    assert await known.look() is None
    await cell.registry.forget_worker("odd")
    assert await known.look() is None
    assert await known.look(afresh=True) == []


async def failed(cell: Cell, *, needed: int) -> Task:
    """Return a task that memory was known to be too little for, on the worker "first"."""
    attempts, task = await started(cell, (await made(cell, image())).id, worker="first")
    failure = Failure(FailureReason.OUT_OF_MEMORY, "too large", memory_needed_bytes=needed)
    return await attempts.fail(task, attempt=1, failure=failure)


@pytest.mark.parametrize(
    ("others", "state"),
    [
        ([], TaskState.FAILED),
        ([gpu_worker("small", 24)], TaskState.FAILED),
        ([gpu_worker("elsewhere", 80, queue="media_processing")], TaskState.FAILED),
        ([gpu_worker("leaving", 80, draining=True)], TaskState.FAILED),
        ([gpu_worker("small", 24), gpu_worker("large", 80)], TaskState.PENDING),
        ([gpu_worker("paused", 80, paused=True)], TaskState.PENDING),
        ([gpu_worker("small", 24), gpu_worker("untold")], TaskState.PENDING),
    ],
)
async def test_what_no_other_worker_has_the_memory_for_fails_at_once(
    others: list[Worker], state: TaskState
) -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("first", 40), *others)
    task = await failed(cell, needed=60 * GB)
    assert task.state is state
    failure = task.failure or task.ended_attempts[-1].failure
    assert failure.memory_needed_bytes == 60 * GB
    assert failure.retryable is (state is TaskState.PENDING)
    assert await cell.folded(task.id) == task


async def test_what_may_fit_the_next_time_is_tried_again() -> None:
    """Memory ran out for it, and nobody knew that before."""
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("first", 40))
    assert (await failed(cell, needed=0)).state is TaskState.PENDING


async def test_while_nobody_can_be_known_it_is_tried_again() -> None:
    cell = memory_cell()
    await cell.registry.heartbeat("odd", b"\x08\x63")  # of a version nobody knows
    assert (await failed(cell, needed=60 * GB)).state is TaskState.PENDING
