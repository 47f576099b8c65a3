"""Why tasks wait, and what operators see: the same over every store."""

from datetime import timedelta

import pytest

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import RoleMissing, UnknownVersion
from callsheet.ledger.model import Failure, FailureReason
from callsheet.ledger.overview import Overview
from callsheet.ledger.store import Candidate
from callsheet.ledger.waiting import Wait, WaitReason, live_workers, why
from callsheet.v1.operations_service_pb2 import Worker, WorkerSlots
from tests.support.ledgers import OWNER, STRANGER, Cell, ping


def _overview(plane: Cell) -> Overview:
    return Overview(plane.store, plane.registry, plane.keys, plane.catalog)


async def _alive(plane: Cell, name: str, *queues: str, version: int = 1) -> None:
    slots = [WorkerSlots(resource_class="worker", total=4, busy=1)]
    worker = Worker(id=name, queues=queues, slots=slots)
    record = WorkerRecord(version=version, worker=worker)
    await plane.registry.heartbeat(name, record.SerializeToString())


async def test_a_ready_task_waits_for_a_worker_and_then_for_a_slot(plane: Cell) -> None:
    await plane.ledger.submit(OWNER, ping())
    second = await plane.ledger.submit(OWNER, ping())
    overview = _overview(plane)
    assert await overview.why(second) == Wait(WaitReason.NO_WORKER, 1)
    await _alive(plane, "w-1", "gpu")
    assert await overview.why(second) == Wait(WaitReason.NO_WORKER, 1)
    await _alive(plane, "w-2", "gpu", "system")
    assert await overview.why(second) == Wait(WaitReason.BUSY, 1)


async def test_a_delayed_task_waits_for_its_time(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=timedelta(hours=1)))
    found = await why(plane.store, plane.registry, plane.keys, task)
    assert found == Wait(WaitReason.SCHEDULED)


async def test_a_task_that_failed_waits_for_its_next_attempt(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    attempts = plane.attempts()
    claims = await attempts.claim(
        count=1, queues=("system",), candidates=[Candidate(0, task.id)], device=""
    )
    running = claims.tasks[0]
    assert await _overview(plane).why(running) == Wait()
    failure = Failure(FailureReason.UNAVAILABLE, "away")
    failed = await attempts.fail(running, attempt=1, failure=failure)
    assert await _overview(plane).why(failed) == Wait(WaitReason.BACKOFF)


async def test_a_task_taken_a_moment_ago_waits_for_nothing(plane: Cell) -> None:
    """The reader still sees it pending, and it stands in no queue."""
    task = await plane.ledger.submit(OWNER, ping())
    await plane.attempts().claim(
        count=1, queues=("system",), candidates=[Candidate(0, task.id)], device=""
    )
    assert await _overview(plane).why(task) == Wait()


async def test_queues_tell_what_waits_and_who_serves(plane: Cell) -> None:
    await plane.ledger.submit(OWNER, ping())
    await _alive(plane, "w-1", "system")
    gpu, *_, system = await _overview(plane).queues(OWNER)
    assert (gpu.name, gpu.ready, gpu.oldest_wait, gpu.workers) == ("gpu", 0, None, 0)
    assert (system.name, system.ready, system.workers) == ("system", 1, 1)
    assert (system.slots, system.busy_slots) == (4, 1)
    assert system.oldest_wait is not None
    assert system.oldest_wait >= timedelta(0)


async def test_what_a_worker_runs_for_another_project_is_not_told(plane: Cell) -> None:
    own = await plane.ledger.submit(OWNER, ping())
    foreign = await plane.ledger.submit(STRANGER, ping())
    worker = Worker(id="w-1", running_task_ids=[foreign.id, own.id, "unknown"])
    record = WorkerRecord(version=1, worker=worker).SerializeToString()
    await plane.registry.heartbeat("w-1", record)
    found = await _overview(plane).workers(OWNER)
    assert [list(each.running_task_ids) for each in found] == [[own.id]]


async def test_only_operators_look_over_the_cell(plane: Cell) -> None:
    stranger = Principal("2", frozenset({"default"}), frozenset({Role.READ, Role.SUBMIT}))
    with pytest.raises(RoleMissing):
        await _overview(plane).queues(stranger)
    with pytest.raises(RoleMissing):
        await _overview(plane).workers(stranger)


async def test_a_worker_of_an_unknown_version_is_refused_loudly(plane: Cell) -> None:
    await _alive(plane, "w-1", "system", version=2)
    with pytest.raises(UnknownVersion):
        await live_workers(plane.registry)
