"""The sweeper: what no task refers to goes, and nothing else."""

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from callsheet.artifacts import sweep as sweeper
from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.store import ArtifactStore
from callsheet.artifacts.sweep import BATCH, KnownTask, LookUp, SweepReport

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
PROJECT: Final = "test_project"


class Ledger:
    """Answers what it knows of tasks, and remembers what it was asked."""

    def __init__(self, tasks: Mapping[str, KnownTask]) -> None:
        self.tasks = tasks
        self.asked: list[Sequence[str]] = []

    async def __call__(self, task_ids: Sequence[str]) -> Mapping[str, KnownTask | None]:
        self.asked.append(task_ids)
        return {task_id: self.tasks.get(task_id) for task_id in task_ids}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store in a folder whose times the tests set."""
    return ArtifactStore(tmp_path.as_uri())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the task folders of the project are."""
    return tmp_path / "projects" / PROJECT / "tasks"


def stored(store: ArtifactStore, task_id: str, *, attempt: int = 1) -> str:
    content = f"{task_id}/{attempt}".encode()
    artifact = store.put(
        content,
        project=PROJECT,
        task_id=task_id,
        attempt=attempt,
        media_type="text/plain",
        suffix="txt",
    )
    return artifact.key


def aged(folder: Path, task_id: str, *, age: timedelta) -> None:
    """Make all that a task stored as old as that at noon."""
    instant = (NOON - age).timestamp()
    for path in (*(folder / task_id).iterdir(), folder / task_id):
        os.utime(path, (instant, instant))


async def swept(store: ArtifactStore, look_up: LookUp) -> SweepReport:
    return await sweeper.sweep(store, look_up=look_up, older_than=HOUR, now=NOON)


async def test_the_folder_of_an_unknown_task_goes(store: ArtifactStore, folder: Path) -> None:
    gone, kept = str(uuid.uuid4()), str(uuid.uuid4())
    stored(store, gone)
    key = stored(store, kept)
    aged(folder, gone, age=2 * HOUR)
    aged(folder, kept, age=2 * HOUR)
    report = await swept(
        store, Ledger({kept: KnownTask(is_final=True, artifact_keys=frozenset({key}))})
    )
    assert not (folder / gone).exists()
    assert store.list_keys(PROJECT, kept) == [key]
    assert (report.folders_seen, report.folders_deleted, report.errors) == (2, 1, [])


async def test_a_young_folder_stays_and_is_not_even_asked_about(
    store: ArtifactStore, folder: Path
) -> None:
    """Its attempt may be between the upload and the commit."""
    task_id = str(uuid.uuid4())
    stored(store, task_id)
    aged(folder, task_id, age=HOUR - timedelta(seconds=1))
    ledger = Ledger({})
    await swept(store, ledger)
    assert (folder / task_id).exists()
    assert ledger.asked == []


async def test_what_a_lost_attempt_of_a_final_task_stored_goes(
    store: ArtifactStore, folder: Path
) -> None:
    # Given a task that ended with its second attempt, after the first was killed past its upload
    task_id = str(uuid.uuid4())
    lost, result = stored(store, task_id), stored(store, task_id, attempt=2)
    (folder / task_id / "1-abc.txt#1").write_bytes(b"half")
    aged(folder, task_id, age=2 * HOUR)
    # When the sweeper comes
    report = await swept(
        store, Ledger({task_id: KnownTask(is_final=True, artifact_keys=frozenset({result}))})
    )
    # Then only the result is left
    assert lost != result
    assert store.list_keys(PROJECT, task_id) == [result]
    assert report.artifacts_deleted == 2


async def test_a_task_that_is_not_final_keeps_all(store: ArtifactStore, folder: Path) -> None:
    task_id = str(uuid.uuid4())
    key = stored(store, task_id)
    aged(folder, task_id, age=1000 * HOUR)
    await swept(store, Ledger({task_id: KnownTask(is_final=False)}))
    assert store.list_keys(PROJECT, task_id) == [key]


async def test_a_task_that_was_not_answered_keeps_all(store: ArtifactStore, folder: Path) -> None:
    task_id = str(uuid.uuid4())
    key = stored(store, task_id)
    aged(folder, task_id, age=2 * HOUR)

    async def silent(task_ids: Sequence[str]) -> Mapping[str, KnownTask | None]:
        return {}

    await swept(store, silent)
    assert store.list_keys(PROJECT, task_id) == [key]


async def test_tasks_are_asked_about_in_bounded_batches(tmp_path: Path, folder: Path) -> None:
    for _ in range(BATCH + 1):
        task_id = str(uuid.uuid4())
        (folder / task_id).mkdir(parents=True)
        aged(folder, task_id, age=2 * HOUR)
    ledger = Ledger({})
    report = await swept(ArtifactStore(tmp_path.as_uri()), ledger)
    assert [len(asked) for asked in ledger.asked] == [BATCH, 1]
    assert report.folders_deleted == BATCH + 1


async def test_one_folder_that_cannot_be_swept_does_not_keep_the_others(
    store: ArtifactStore, folder: Path
) -> None:
    # Given two folders, one with a folder in it, which no artifact is
    odd, gone = str(uuid.uuid4()), str(uuid.uuid4())
    (folder / odd / "inner").mkdir(parents=True)
    stored(store, gone)
    aged(folder, odd, age=2 * HOUR)
    aged(folder, gone, age=2 * HOUR)
    # When the sweeper tries to delete a file where the folder is
    report = await swept(store, Ledger({odd: KnownTask(is_final=True)}))
    # Then it says so, and the other one is gone
    assert [error.split(":")[0] for error in report.errors] == ["an artifact could not be deleted"]
    assert not (folder / gone).exists()


async def test_a_store_that_cannot_be_listed_says_so(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("no folder")
    with pytest.raises(ArtifactStoreError, match="the artifacts could not be listed"):
        await swept(ArtifactStore(tmp_path.as_uri()), Ledger({}))
