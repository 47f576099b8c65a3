"""What operators hold: queues that nobody claims from, and wishes that workers hear."""

from datetime import timedelta

import pytest

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import QueueNotFound, RoleMissing, WorkerNotFound
from callsheet.ledger.index import WORKER_WORD
from callsheet.ledger.model import Task
from callsheet.ledger.overview import Overview
from callsheet.ledger.registry import Wish
from callsheet.ledger.store import Candidate
from callsheet.ledger.waiting import Wait, WaitReason
from callsheet.v1.operations_service_pb2 import Worker
from tests.support.ledgers import OWNER, Cell, ping

SOON = timedelta(milliseconds=10)
LATER = timedelta(seconds=10)


def overview(plane: Cell) -> Overview:
    return Overview(plane.store, plane.registry, plane.keys, plane.catalog)


async def claimed(plane: Cell, *tasks: Task) -> tuple[list[str], list[str]]:
    """Try to claim the tasks; return the ids of those that were started, and of what is ready."""
    candidates = [Candidate(0, task.id) for task in tasks]
    claims = await plane.attempts().claim(
        count=len(tasks), queues=("system",), candidates=candidates, device=""
    )
    return [task.id for task in claims.tasks], [each.task_id for each in claims.ready]


async def test_nothing_of_a_paused_queue_is_claimed(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await overview(plane).pause_queue(OWNER, "system")
    assert await claimed(plane, task) == ([], [])
    assert await plane.writer.read(task.id) == task


async def test_other_queues_go_on(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await overview(plane).pause_queue(OWNER, "gpu")
    claims = await plane.attempts().claim(
        count=1, queues=("gpu", "system"), candidates=[Candidate(1, task.id)], device=""
    )
    assert [each.id for each in claims.tasks] == [task.id]


async def test_what_runs_goes_on_when_its_queue_is_paused(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    assert await claimed(plane, task) == ([task.id], [])
    await overview(plane).pause_queue(OWNER, "system")
    assert await plane.attempts().renew([(task.id, 1)]) == [2]
    running = await plane.writer.read(task.id)
    await plane.attempts().hand_back(running, attempt=1, reason="done with it")
    assert await claimed(plane, task) == ([], [])


async def test_a_claim_that_is_repeated_after_the_pause_answers_what_it_started(
    plane: Cell,
) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    attempts = plane.attempts()
    made: list[object] = []
    claim = plane.store.claim

    async def noted(asked: object) -> object:
        made.append(asked)
        return await claim(asked)  # pyright: ignore[reportArgumentType]  # passed on as it came

    plane.store.claim = noted  # pyright: ignore[reportAttributeAccessIssue]  # to see what is asked
    try:
        await attempts.claim(
            count=1, queues=("system",), candidates=[Candidate(0, task.id)], device=""
        )
    finally:
        plane.store.claim = claim
    await plane.store.pause("system")
    again = await plane.store.claim(made[0])  # pyright: ignore[reportArgumentType]  # as above
    assert [stored.task_id for stored in again.started] == [task.id]


async def test_a_resumed_queue_is_claimed_from_again_and_wakes_who_waits(plane: Cell) -> None:
    tasks = [await plane.ledger.submit(OWNER, ping()) for _ in range(2)]
    await overview(plane).pause_queue(OWNER, "system")
    # A worker that looks finds nothing, and every wake-up is stale
    assert await claimed(plane, *tasks) == ([], [])
    assert await plane.store.await_wake(["system"], timeout=SOON) is None
    await overview(plane).resume_queue(OWNER, "system")
    woken = [await plane.store.await_wake(["system"], timeout=LATER) for _ in tasks]
    assert woken == [Candidate(0, task.id) for task in tasks]
    assert await claimed(plane, *tasks) == ([task.id for task in tasks], [])


async def test_a_queue_stays_paused_since_the_first_time(plane: Cell) -> None:
    first = await overview(plane).pause_queue(OWNER, "system")
    again = await overview(plane).pause_queue(OWNER, "system")
    assert first.pause_time is not None
    assert again == first
    assert (await overview(plane).resume_queue(OWNER, "system")).pause_time is None
    assert (await overview(plane).resume_queue(OWNER, "system")).pause_time is None


async def test_a_task_says_that_its_queue_is_paused(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    delayed = await plane.ledger.submit(OWNER, ping(delay=timedelta(hours=1)))
    await overview(plane).pause_queue(OWNER, "system")
    assert await overview(plane).why(task) == Wait(WaitReason.PAUSED, 0)
    assert await overview(plane).why(delayed) == Wait(WaitReason.SCHEDULED)


async def test_a_task_says_that_every_worker_it_could_have_is_paused(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await _alive(plane, Worker(id="w-1", queues=["system"], paused=True))
    assert await overview(plane).why(task) == Wait(WaitReason.PAUSED, 0)
    *_, system = await overview(plane).queues(OWNER)
    assert system.workers == 0
    await _alive(plane, Worker(id="w-2", queues=["system"]))
    assert await overview(plane).why(task) == Wait(WaitReason.BUSY, 0)


async def test_a_queue_that_is_not_there_cannot_be_paused(plane: Cell) -> None:
    for change in (overview(plane).pause_queue, overview(plane).resume_queue):
        with pytest.raises(QueueNotFound):
            await change(OWNER, "nobody")
    assert await plane.store.counts(plane.keys.paused) == {}


async def _alive(plane: Cell, worker: Worker) -> Wish | None:
    record = WorkerRecord(version=1, worker=worker)
    return await plane.registry.heartbeat(worker.id, record.SerializeToString())


@pytest.mark.parametrize("wish", [Wish.PAUSE, Wish.DRAIN])
async def test_a_worker_hears_a_wish_on_its_control_list_and_with_each_heartbeat(
    plane: Cell, wish: Wish
) -> None:
    worker = Worker(id="w-1", queues=["system"])
    assert await _alive(plane, worker) is None
    assert (await overview(plane).wish(OWNER, "w-1", wish)).id == "w-1"
    assert await plane.store.await_control("w-1", timeout=LATER) == WORKER_WORD
    assert [await _alive(plane, worker) for _ in range(2)] == [wish, wish]
    await overview(plane).wish(OWNER, "w-1", None)
    assert await plane.store.await_control("w-1", timeout=LATER) == WORKER_WORD
    assert await _alive(plane, worker) is None


async def test_a_worker_that_drains_is_not_just_paused(plane: Cell) -> None:
    worker = Worker(id="w-1")
    await _alive(plane, worker)
    for wish in (Wish.PAUSE, Wish.DRAIN, Wish.PAUSE):
        await overview(plane).wish(OWNER, "w-1", wish)
    assert await _alive(plane, worker) is Wish.DRAIN


async def test_nothing_is_wished_of_a_worker_that_is_not_there(plane: Cell) -> None:
    with pytest.raises(WorkerNotFound):
        await overview(plane).wish(OWNER, "w-1", Wish.PAUSE)
    await _alive(plane, Worker(id="w-1"))
    await overview(plane).wish(OWNER, "w-1", Wish.PAUSE)
    await plane.registry.forget_worker("w-1")
    assert await _alive(plane, Worker(id="w-1")) is None


async def test_only_operators_hold_anything(plane: Cell) -> None:
    await _alive(plane, Worker(id="w-1"))
    stranger = Principal("2", frozenset({"default"}), frozenset({Role.READ, Role.SUBMIT}))
    with pytest.raises(RoleMissing):
        await overview(plane).pause_queue(stranger, "system")
    with pytest.raises(RoleMissing):
        await overview(plane).resume_queue(stranger, "system")
    with pytest.raises(RoleMissing):
        await overview(plane).wish(stranger, "w-1", Wish.DRAIN)
    assert await plane.store.counts(plane.keys.paused) == {}
    assert await _alive(plane, Worker(id="w-1")) is None
