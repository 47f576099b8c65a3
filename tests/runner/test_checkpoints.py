"""The checkpoints of an attempt: when they are due, where they are, what is found there."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import FromRunner, RunAttempt
from callsheet.runner.checkpoints import AttemptCheckpoints, CheckpointPolicy, PartSlot
from callsheet.runner.uploads import Uploads
from callsheet.v1.task_pb2 import Checkpoint
from tests.support.runners import PROJECT

SOON = timedelta(seconds=30)
ALWAYS = timedelta(microseconds=1)
TASK = str(uuid.UUID(int=7))


class Clock:
    """Tells the time that the test sets; each look takes a second unless it stands."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_checkpoint_is_due_after_each_period_of_work(clock: Clock) -> None:
    policy = CheckpointPolicy(timedelta(seconds=10), clock=clock)
    clock.now += 60  # a model is loaded meanwhile, which a checkpoint would not save
    assert not policy.is_due()
    clock.now += 9.9
    assert not policy.is_due()
    clock.now += 0.1
    assert policy.is_due()
    policy.taken()
    assert not policy.is_due()
    clock.now += 10
    assert policy.is_due()


def test_long_work_has_few_checkpoints_more(clock: Clock) -> None:
    """Each is a fact that is kept: an hour has not 360 of them, and loses a fiftieth at most."""
    policy = CheckpointPolicy(timedelta(seconds=10), clock=clock)
    taken = [clock.now]
    for _ in range(3600):
        if policy.is_due():
            policy.taken()
            assert clock.now - taken[-1] <= max(11, 1 + 0.02 * (clock.now - 100))
            taken.append(clock.now)
        clock.now += 1
    assert 100 < len(taken) < 160


def test_without_a_period_none_is_ever_due(clock: Clock) -> None:
    policy = CheckpointPolicy(timedelta(0), clock=clock)
    for _ in range(3):
        assert not policy.is_due()
        clock.now += 3600


class Desk:
    """An attempt's checkpoints, and what they tell."""

    def __init__(self, folder: Path, *, attempt: int = 1, found: Checkpoint | None = None) -> None:
        self.store = ArtifactStore(folder.as_uri())
        self.uploads = Uploads()
        self.sent: list[FromRunner] = []
        self.said: list[str] = []
        self.clock = Clock()
        self.checkpoints = AttemptCheckpoints(
            RunAttempt(task_id=TASK, attempt=attempt, project=PROJECT, checkpoint=found),
            artifacts=self.store,
            uploads=self.uploads,
            send=self.sent.append,
            policy=CheckpointPolicy(ALWAYS, clock=self.clock),
        )

    def slot(self, part: int = 0) -> PartSlot:
        return self.checkpoints.slot(part, say=self.said.append)

    def save(self, content: bytes, *, step: int, part: int = 0) -> Checkpoint:
        """Save a state, and return what the worker was told of it."""
        self.slot(part).save(content, step=step, of=8)
        assert self.uploads.finish(within=SOON)
        return self.sent[-1].checkpoint.checkpoint

    def kept(self) -> set[bytes]:
        return {self.store.get(key) for key in self.store.list_keys(PROJECT, TASK)}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    assert desk.uploads.finish(within=SOON)


def test_a_saved_state_is_told_once_it_is_safe_and_found_by_the_next_attempt(
    desk: Desk, tmp_path: Path
) -> None:
    saved = desk.save(b"behind the fourth", step=4)
    told = desk.sent[0].checkpoint
    assert (told.task_id, told.attempt) == (TASK, 1)
    assert (saved.step, saved.of, saved.part, saved.size_bytes) == (4, 8, 0, 17)
    assert desk.store.get(saved.key) == b"behind the fourth"
    after = Desk(tmp_path, attempt=2, found=saved)
    assert after.slot().load() == b"behind the fourth"
    assert after.said == []
    after.slot().resumed(4, of=8)
    assert after.said == ["going on behind step 4, as an earlier attempt left it"]


def test_a_first_attempt_finds_nothing(desk: Desk) -> None:
    assert desk.slot().load() is None
    assert desk.said == []


def test_the_two_newest_are_kept_whichever_attempt_saved_them(tmp_path: Path) -> None:
    """The ledger may not know the newest one yet."""
    desk = Desk(tmp_path)
    for step in (1, 2):
        last = desk.save(b"%d" % step, step=step)
    assert desk.kept() == {b"1", b"2"}
    after = Desk(tmp_path, attempt=2, found=last)
    after.save(b"3", step=3)
    after.save(b"4", step=4)
    # The oldest one is of another attempt than this, and is the sweeper's.
    assert after.kept() == {b"1", b"3", b"4"}


def test_a_state_that_is_gone_or_was_changed_is_not_gone_on_from(
    desk: Desk, tmp_path: Path
) -> None:
    saved = desk.save(b"whole", step=4)
    (tmp_path / saved.key).write_bytes(b"torn")
    after = Desk(tmp_path, attempt=2, found=saved)
    assert after.slot().load() is None
    assert after.said == ["starting anew: the checkpoint cannot be read"]
    (tmp_path / saved.key).unlink()
    after = Desk(tmp_path, attempt=2, found=saved)
    assert after.slot().load() is None
    assert after.said == ["starting anew: the checkpoint is not in the store any more"]


def test_a_state_is_of_one_rendering_and_those_before_it_do_not_overwrite_it(
    desk: Desk, tmp_path: Path
) -> None:
    after = Desk(tmp_path, attempt=2, found=desk.save(b"the second", step=4, part=1))
    first, second, third = (after.slot(part) for part in range(3))
    assert (first.load(), second.load(), third.load()) == (None, b"the second", None)
    assert after.said == []
    for slot in (first, second, third):
        slot.is_due()
    after.clock.now += 1
    assert [slot.is_due() for slot in (first, second, third)] == [False, True, True]
    # Once the work starts anew, what is done of the first is worth saving.
    second.refuse("no use")
    assert first.is_due()


def test_no_state_is_due_while_one_is_on_its_way(desk: Desk) -> None:
    desk.slot().is_due()
    desk.clock.now += 1
    assert desk.slot().is_due()
    desk.slot().save(b"1", step=1, of=8)
    assert not desk.slot().is_due()  # it was just taken, whether or not it has arrived
    assert desk.uploads.finish(within=SOON)
    desk.clock.now += 1
    assert desk.slot().is_due()


def test_of_work_that_is_done_nothing_is_kept(desk: Desk) -> None:
    desk.save(b"1", step=1)
    desk.save(b"2", step=2)
    desk.checkpoints.close(succeeded=True)
    assert desk.uploads.finish(within=SOON)
    assert desk.kept() == set()


def test_of_work_that_was_stopped_the_last_state_still_arrives(desk: Desk) -> None:
    desk.slot().save(b"1", step=1, of=8)
    desk.checkpoints.close(succeeded=False)
    assert [frame.checkpoint.checkpoint.step for frame in desk.sent] == [1]
    assert desk.kept() == {b"1"}


def test_nothing_is_told_after_the_end(desk: Desk) -> None:
    desk.checkpoints.close(succeeded=False)
    desk.slot().save(b"1", step=1, of=8)
    assert desk.uploads.finish(within=SOON)
    assert desk.sent == []
