"""What was uploaded for nothing is deleted, and nothing else."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.artifacts.store import ArtifactStore, StoredArtifact
from callsheet.ledger.model import NO_TIME, Task, Usage
from callsheet.ledger.store import Commit
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.upkeep.artifact_sweeper import ArtifactSweeper
from tests.support.ledgers import Cell
from tests.support.upkeeping import rescuer, running

#: When the artifacts of these tests are old enough to go.
LATER: Final = timedelta(hours=2)


def upload(store: ArtifactStore, task_id: str, *, attempt: int, content: bytes) -> StoredArtifact:
    return store.put(
        content,
        project="default",
        task_id=task_id,
        attempt=attempt,
        media_type="image/png",
        suffix="png",
    )


def output_of(stored: StoredArtifact) -> bytes:
    output = GenerateImageOutput(images=[Artifact(uri=stored.uri, key=stored.key)])
    packed = AnyMessage()
    packed.Pack(output)
    return packed.SerializeToString(deterministic=True)


def sweeper(plane: Cell, store: ArtifactStore, *, after: timedelta = LATER) -> ArtifactSweeper:
    return ArtifactSweeper(plane.store, store, clock=lambda: datetime.now(UTC) + after)  # noqa: TID251  # files bear the system's time


def store_in(folder: Path) -> ArtifactStore:
    return ArtifactStore((folder / "artifacts").as_uri())


async def test_what_a_lost_attempt_uploaded_is_deleted_once_another_has_succeeded(
    plane: Cell, tmp_path: Path
) -> None:
    store = store_in(tmp_path)
    # Given a worker that died between its upload and its commit, and a second attempt
    task = await running(plane, lease=NO_TIME)
    lost = upload(store, task.id, attempt=1, content=b"first")
    await rescuer(plane).run_once()
    task = await running(plane, task)
    kept = upload(store, task.id, attempt=2, content=b"second")
    # When the task still runs, then nothing goes
    await sweeper(plane, store).run_once()
    assert sorted(store.list_keys("default", task.id)) == sorted([lost.key, kept.key])
    # When it has succeeded, then what it does not refer to goes
    await plane.attempts().succeed(task, attempt=2, output=output_of(kept), usage=Usage())
    await sweeper(plane, store).run_once()
    assert store.list_keys("default", task.id) == [kept.key]


async def test_the_folder_of_a_task_that_is_gone_is_deleted(plane: Cell, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    gone = str(uuid.uuid4())
    upload(store, gone, attempt=1, content=b"x")
    await sweeper(plane, store).run_once()
    assert list(store.list_task_folders()) == []


async def test_what_is_young_stays(plane: Cell, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    stored = upload(store, str(uuid.uuid4()), attempt=1, content=b"x")
    await sweeper(plane, store, after=NO_TIME).run_once()
    assert store.get(stored.key) == b"x"


async def test_what_an_unknown_output_may_refer_to_stays(plane: Cell, tmp_path: Path) -> None:
    """Its task was finished by a worker of a newer version."""
    store = store_in(tmp_path)
    task = await running(plane)
    stored = upload(store, task.id, attempt=1, content=b"x")
    output = AnyMessage(type_url="type.googleapis.com/callsheet.tasks.v9.FilmOutput", value=b"")
    packed = output.SerializeToString()
    await plane.attempts().succeed(task, attempt=1, output=packed, usage=Usage())
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_what_an_unreadable_task_may_refer_to_stays(plane: Cell, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    task: Task = await running(plane)
    stored = upload(store, task.id, attempt=1, content=b"x")
    await plane.store.commit([Commit(task.id, expected=task.sequence, record=b"\x08\x63")])
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_a_store_that_cannot_be_listed_is_tried_again_later(
    plane: Cell, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    assert await sweeper(plane, store_in(tmp_path)).run_once() > NO_TIME
