"""How long tasks wait between attempts: as the contract says, or as it is set by queue."""

from datetime import timedelta

import pytest

from callsheet.ledger import machine
from callsheet.ledger.catalog import TaskType, task_types, with_waits
from callsheet.ledger.errors import QueueNotFound
from callsheet.ledger.events import AttemptFailed
from callsheet.ledger.model import Failure, FailureReason, Submission, Task, TaskState
from tests.support.machine_steps import NOON

WAITS = tuple(timedelta(seconds=wait) for wait in (3, 50, 7))
MEDIA = ("generate_image", "edit_image", "generate_video", "edit_audio", "synthesize_speech")


def delay(kind: TaskType, *, failures: int, jitter: float = 0.5) -> float:
    """Return the seconds to wait after so many failed attempts, the last of them included."""
    submission = Submission(
        project="p",
        task_type=kind.name,
        spec=b"",
        queue=kind.queue,
        priority=5,
        max_attempts=99,
        time_limit=kind.time_limit,
    )
    task = Task(
        id="t",
        submission=submission,
        state=TaskState.RUNNING,
        sequence=2,
        create_time=NOON,
        update_time=NOON,
        attempt=failures,
        failures=failures - 1,
    )
    event = machine.fail(
        task,
        attempt=failures,
        failure=Failure(FailureReason.INTERNAL, "so"),
        backoff=kind.backoff,
        jitter=jitter,
    )
    assert isinstance(event, AttemptFailed)
    assert event.failure.retry_delay is not None
    return event.failure.retry_delay.total_seconds()


@pytest.mark.parametrize("name", MEDIA)
def test_media_wait_for_120_and_240_seconds(name: str) -> None:
    kind = task_types()[name]
    assert [delay(kind, failures=failures) for failures in (1, 2, 3)] == [120, 240, 240]
    assert kind.max_attempts == 3


def test_what_is_set_for_a_queue_holds_for_its_tasks_alone() -> None:
    kinds = with_waits({"gpu": WAITS})
    assert [delay(kinds["generate_video"], failures=n) for n in (1, 2, 3, 4)] == [3, 50, 7, 7]
    assert kinds.keys() == task_types().keys()
    for name, kind in task_types().items():
        assert (kinds[name] == kind) is (kind.queue != "gpu")


def test_waits_that_are_set_are_spread_by_a_fifth_either_way() -> None:
    kind = with_waits({"gpu": WAITS})["generate_video"]
    assert [delay(kind, failures=2, jitter=jitter) for jitter in (0.0, 1.0)] == [40, 60]


def test_a_queue_that_is_not_there_is_refused() -> None:
    with pytest.raises(QueueNotFound, match="there is no queue gpus"):
        with_waits({"gpus": WAITS})
