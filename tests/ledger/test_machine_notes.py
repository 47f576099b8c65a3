"""What is noted of a task without moving it: the rules, on their own."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from callsheet.ledger import machine
from callsheet.ledger.errors import IllegalTransition, LeaseLost
from callsheet.ledger.events import (
    CancelRequested,
    MediaRegistered,
    TaskCancelled,
    TaskFailed,
    TaskSucceeded,
)
from callsheet.ledger.model import (
    Checkpoint,
    Failure,
    FailureReason,
    Knowledge,
    RegisteredMedia,
    Task,
    TaskContext,
    TaskState,
    Usage,
)
from tests.support.machine_steps import (
    NOON,
    after,
    failed,
    pending,
    started,
)


@pytest.fixture
def running() -> Task:
    return started(pending())


def test_what_a_media_library_has_of_a_task_is_noted_once_and_changes_nothing_else(
    running: Task,
) -> None:
    media = (RegisteredMedia("s3://films/a.png", "7"),)
    ended = after(running, TaskSucceeded(1, b"output", Usage()))
    noted = machine.evolve(ended, MediaRegistered(media), time=NOON + timedelta(hours=1))
    assert machine.register_media(ended, media) == MediaRegistered(media)
    assert machine.register_media(ended, ()) is None
    assert machine.register_media(noted, media) is None
    assert (noted.media, noted.sequence) == (media, ended.sequence + 1)
    assert (noted.state, noted.output, noted.end_time) == (ended.state, ended.output, NOON)


@pytest.mark.parametrize("state", [state for state in TaskState if state != TaskState.SUCCEEDED])
def test_only_a_task_that_succeeded_has_media(running: Task, state: TaskState) -> None:
    task = replace(running, state=state)
    with pytest.raises(IllegalTransition):
        machine.register_media(task, (RegisteredMedia("s3://films/a.png", "7"),))


CONTEXT = TaskContext((Knowledge("a", "the fox is red", 0.5),))


def test_what_is_known_is_of_one_attempt(running: Task) -> None:
    retrieved = machine.note_context(running, attempt=1, context=CONTEXT)
    task = after(running, retrieved)
    assert (task.context, task.context_time, task.state) == (CONTEXT, NOON, TaskState.RUNNING)
    # A second time changes nothing, and the next attempt begins without it.
    assert machine.note_context(task, attempt=1, context=CONTEXT) is None
    task = started(after(task, failed(task, FailureReason.INTERNAL)))
    assert (task.context, task.context_time) == (None, None)


def test_only_the_running_attempt_may_note_what_is_known(running: Task) -> None:
    for task, attempt in ((pending(), 1), (running, 2), (running, 0)):
        with pytest.raises(LeaseLost):
            machine.note_context(task, attempt=attempt, context=CONTEXT)


CHECKPOINT = Checkpoint("k", "d", 3, step=4, of=8)


def saved(task: Task, checkpoint: Checkpoint = CHECKPOINT) -> Task:
    event = machine.save_checkpoint(task, attempt=task.attempt, checkpoint=checkpoint)
    assert event is not None
    return after(task, event)


def test_the_next_attempt_goes_on_from_the_newest_checkpoint(running: Task) -> None:
    newer = replace(CHECKPOINT, key="l", step=6)
    task = saved(saved(running), newer)
    assert (task.resumes_from, task.state, task.attempt) == (newer, TaskState.RUNNING, 1)
    # Saved again it changes nothing, and the fact survives the failure.
    assert machine.save_checkpoint(task, attempt=1, checkpoint=newer) is None
    assert after(task, failed(task, FailureReason.WORKER_LOST)).resumes_from == newer


def test_a_checkpoint_that_an_attempt_failed_of_is_not_tried_again(running: Task) -> None:
    task = saved(running)
    task = started(after(task, failed(task, FailureReason.WORKER_LOST)))
    # Handed back it has not failed, and the next one goes on.
    task = started(after(task, machine.hand_back(task, attempt=2, reason="")))
    assert task.resumes_from == CHECKPOINT
    task = after(task, failed(task, FailureReason.WORKER_LOST))
    assert task.resumes_from is None


def test_a_final_task_has_no_checkpoint(running: Task) -> None:
    task = saved(running)
    for event in (
        machine.succeed(task, attempt=1, output=b"", usage=Usage()),
        TaskFailed(1, Failure(FailureReason.INTERNAL, "")),
        TaskCancelled(""),
    ):
        assert after(task, event).checkpoint is None


def test_only_the_running_attempt_saves_checkpoints_and_only_while_it_is_wanted(
    running: Task,
) -> None:
    for task, attempt in ((pending(), 1), (running, 2), (running, 0)):
        with pytest.raises(LeaseLost):
            machine.save_checkpoint(task, attempt=attempt, checkpoint=CHECKPOINT)
    asked = after(running, CancelRequested(""))
    assert machine.save_checkpoint(asked, attempt=1, checkpoint=CHECKPOINT) is None
