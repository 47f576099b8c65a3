"""What is made on the way is stored beside inference, the newest of each kind."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.runner.frames import PipeBroken
from callsheet.runner.uploads import Uploads

SOON = timedelta(seconds=30)


class Held:
    """A job that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun, self._go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self._go.wait(SOON.total_seconds())

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def held(uploads: Uploads) -> Iterator[Held]:
    """A job of the kind a that is being done, so that others wait."""
    job = Held()
    uploads.put("a", job)
    assert job.begun.wait(SOON.total_seconds())
    yield job
    job.let_go()


def test_of_those_that_wait_the_newest_of_each_kind_is_done(uploads: Uploads, held: Held) -> None:
    done: list[str] = []
    for name in ("a1", "b1", "a2", "b2"):
        uploads.put(name[0], lambda name=name: done.append(name))
    assert uploads.is_busy("a")
    assert uploads.is_busy("b")
    assert not uploads.is_busy("c")
    held.let_go()
    assert uploads.finish(within=SOON)
    assert sorted(done) == ["a2", "b2"]
    assert not uploads.is_busy("a")


def test_what_takes_too_long_is_not_waited_for(uploads: Uploads, held: Held) -> None:
    assert not uploads.finish(within=timedelta(milliseconds=1))
    held.let_go()
    assert uploads.finish(within=SOON)


@pytest.mark.parametrize(
    "error", [ArtifactStoreError("the store is away"), PipeBroken("gone"), ValueError("a defect")]
)
def test_what_goes_wrong_with_one_leaves_the_next(uploads: Uploads, error: Exception) -> None:
    def fail() -> None:
        raise error

    done = threading.Event()
    uploads.put("a", fail)
    assert uploads.finish(within=SOON)
    uploads.put("a", done.set)
    assert uploads.finish(within=SOON)
    assert done.is_set()
