"""What is noted of a task without moving it, in every store."""

import pytest
from msgspec.structs import replace

from callsheet.ledger import machine
from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import IllegalTransition, LeaseLost
from callsheet.ledger.model import Checkpoint, Failure, FailureReason, RegisteredMedia, TaskState
from tests.support.ledgers import OWNER, Cell, ping
from tests.support.work import started, succeeded

CHECKPOINT = Checkpoint("k", "d", 3, step=4, of=8)
MEDIA = (RegisteredMedia("s3://films/a.png", "7"), RegisteredMedia("s3://films/b.png", "8f3"))


async def test_a_note_on_a_final_task_moves_it_nowhere(plane: Cell) -> None:
    """It stays final, ended when it ended, and is forgotten when it would have been."""
    task = await plane.ledger.submit(OWNER, ping())
    ended = await succeeded(plane, task.id)
    keys = (
        plane.keys.final,
        plane.keys.project("default"),
        plane.keys.project_final("default", TaskState.SUCCEEDED),
        plane.keys.project_live("default"),
        plane.keys.leases,
    )
    places = [await plane.store.members(key, limit=9) for key in keys]
    noted = await plane.writer.change(ended, lambda task: machine.register_media(task, MEDIA))
    (stored,) = await plane.store.read([task.id])
    assert stored is not None
    assert decode_task(stored) == noted == await plane.folded(task.id)
    assert (noted.media, noted.end_time) == (MEDIA, ended.end_time)
    assert noted.update_time > ended.update_time
    assert [await plane.store.members(key, limit=9) for key in keys] == places


async def test_a_checkpoint_moves_its_task_nowhere_and_is_there_for_the_next_attempt(
    plane: Cell,
) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    attempts, running = await started(plane, task.id)
    leases = await plane.store.members(plane.keys.leases, limit=9)
    saved = await attempts.save_checkpoint(running, attempt=1, checkpoint=CHECKPOINT)
    assert (saved.state, saved.sequence) == (TaskState.RUNNING, running.sequence + 1)
    assert await plane.store.members(plane.keys.leases, limit=9) == leases
    # Saved again, as after a lost answer, it is one fact.
    again = await attempts.save_checkpoint(running, attempt=1, checkpoint=CHECKPOINT)
    assert again == saved == await plane.folded(task.id)
    lost = Failure(FailureReason.WORKER_LOST, "gone")
    await attempts.fail(saved, attempt=1, failure=lost)
    _, running = await started(plane, task.id, worker="worker-2")
    assert (running.attempt, running.resumes_from) == (2, CHECKPOINT)
    with pytest.raises(LeaseLost):
        await attempts.save_checkpoint(saved, attempt=1, checkpoint=replace(CHECKPOINT, step=5))


async def test_each_artifact_is_noted_once(plane: Cell) -> None:
    """Of two sidecars that both believe to be first, the second adds only what was not noted."""
    task = await plane.ledger.submit(OWNER, ping())
    ended = await succeeded(plane, task.id)
    first = await plane.writer.change(ended, lambda task: machine.register_media(task, MEDIA[:1]))
    second = await plane.writer.change(ended, lambda task: machine.register_media(task, MEDIA))
    assert (first.media, second.media) == (MEDIA[:1], MEDIA)
    assert second == await plane.folded(task.id)
    third = await plane.writer.change(ended, lambda task: machine.register_media(task, MEDIA))
    assert third.sequence == second.sequence == first.sequence + 1
    assert third.end_time == ended.end_time


async def test_a_task_that_did_not_succeed_has_no_media(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    cancelled = await plane.ledger.cancel(OWNER, task.id, reason="")
    with pytest.raises(IllegalTransition):
        await plane.writer.change(cancelled, lambda task: machine.register_media(task, MEDIA))
