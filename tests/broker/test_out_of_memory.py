"""Who takes a task that memory ran out for."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from callsheet.broker.out_of_memory import PATIENCE, LeftToOthers, is_left_to_others
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.model import Failure, FailureReason, Task
from callsheet.v1.operations_service_pb2 import Worker
from tests.support.alive import GB, gpu_worker, heard
from tests.support.ledgers import Cell, memory_cell
from tests.support.reusing import image, made
from tests.support.work import started


async def failed(
    cell: Cell,
    reason: FailureReason = FailureReason.OUT_OF_MEMORY,
    *,
    needed: int = 0,
    on: str = "first",
) -> Task:
    """Return a task whose only attempt failed of that."""
    task = await made(cell, image())
    attempts, task = await started(cell, task.id, worker=on)
    failure = Failure(reason, "so", memory_needed_bytes=needed)
    return await attempts.fail(task, attempt=1, failure=failure)


def leaving(task: Task, *workers: Worker, after: timedelta = timedelta(0)) -> list[str]:
    """Return the names of those that leave the task to others, so long after its back-off."""
    ready = task.ready_time
    assert ready is not None
    return [
        each.id
        for each in workers
        if is_left_to_others(task, worker=each.id, workers=workers, now=ready + after)
    ]


@pytest.mark.parametrize(
    ("workers", "left_by"),
    [
        ([gpu_worker("first", 24)], []),
        ([gpu_worker("first", 24), gpu_worker("other", 24)], ["first"]),
        ([gpu_worker("first", 24), gpu_worker("other", 80)], ["first"]),
        ([gpu_worker("first", 24), gpu_worker("other", 16)], []),
        ([gpu_worker("first", 24), gpu_worker("other")], ["first"]),
        ([gpu_worker("first"), gpu_worker("other")], ["first"]),
        (
            [gpu_worker("first", 24), gpu_worker("same", 24), gpu_worker("more", 80)],
            ["first", "same"],
        ),
        (
            [gpu_worker("first", 24), gpu_worker("more", 48), gpu_worker("most", 80)],
            ["first"],
        ),
        ([gpu_worker("first", 24), gpu_worker("less", 16), gpu_worker("same", 24)],
         ["first", "less"]),
        ([gpu_worker("less", 16), gpu_worker("more", 80)], ["less"]),
        ([gpu_worker("first", 24), gpu_worker("other", 80, paused=True)], []),
        ([gpu_worker("first", 24), gpu_worker("other", 80, draining=True)], []),
        ([gpu_worker("first", 24), gpu_worker("other", 80, queue="media_processing")], []),
    ],
)  # fmt: skip
async def test_it_is_left_to_who_has_more_memory_or_else_to_another_one(
    workers: list[Worker], left_by: list[str]
) -> None:
    assert leaving(await failed(memory_cell()), *workers) == left_by


async def test_who_has_less_than_is_known_to_be_needed_leaves_it_to_who_has_enough() -> None:
    first, more, most = gpu_worker("first", 24), gpu_worker("more", 48), gpu_worker("most", 80)
    cell = memory_cell()
    await heard(cell.registry, first, more, most)
    task = await failed(cell, needed=60 * GB)
    assert leaving(task, first, more, most) == ["first", "more"]
    # However long that takes: to fail once more helps nobody
    assert leaving(task, first, more, most, after=2 * PATIENCE) == ["first", "more"]
    assert leaving(task, first, more) == []


async def test_it_is_left_to_nobody_once_it_has_waited_for_long() -> None:
    task = await failed(memory_cell())
    workers = [gpu_worker("first", 24), gpu_worker("other", 80)]
    assert leaving(task, *workers, after=PATIENCE - timedelta(seconds=1)) == ["first"]
    assert leaving(task, *workers, after=PATIENCE) == []


async def test_another_failure_and_one_before_the_latest_leave_it_to_whoever_comes() -> None:
    workers = [gpu_worker("first", 24), gpu_worker("other", 80)]
    assert leaving(await failed(memory_cell(), FailureReason.INTERNAL), *workers) == []
    task = await failed(memory_cell())
    assert leaving(replace(task, attempt=2), *workers) == []


async def test_the_registry_is_asked_only_for_tasks_that_memory_ran_out_for() -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("first", 24), gpu_worker("other", 80))
    task = await failed(cell)
    assert task.ready_time is not None
    now = task.ready_time
    leaves = LeftToOthers(KnownWorkers(cell.registry), worker="first", now=lambda: now)
    fresh = await made(cell, image("bb"))
    assert (await leaves(fresh), await leaves(task)) == (False, True)


async def test_what_cannot_be_known_leaves_nothing_to_others() -> None:
    cell = memory_cell()
    await cell.registry.heartbeat("odd", b"\x08\x63")  # of a version nobody knows
    task = await failed(cell)
    assert task.ready_time is not None
    now = task.ready_time
    leaves = LeftToOthers(KnownWorkers(cell.registry), worker="first", now=lambda: now)
    assert not await leaves(task)
