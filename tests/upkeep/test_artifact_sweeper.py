"""What was uploaded for nothing is deleted, and nothing else."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from redis.asyncio import Redis
from structlog.testing import capture_logs

from callsheet.artifacts.ownership import OWNER_KEY, StoreOwner
from callsheet.artifacts.store import ArtifactStore, StoredArtifact
from callsheet.ledger.model import NO_TIME, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Commit
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.upkeep.artifact_sweeper import ArtifactSweeper
from tests.support.buckets import new_bucket, s3_endpoint
from tests.support.ledgers import Cell, redis_cell
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
    return ArtifactSweeper(
        plane.store,
        store,
        cell=plane.keys.cell,
        identity=plane.log.identity,
        clock=lambda: datetime.now(UTC) + after,  # noqa: TID251  # files bear the system's time
    )


def store_in(folder: Path) -> ArtifactStore:
    return ArtifactStore((folder / "artifacts").as_uri())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "bucket"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """Every kind of store, in turn, while it is nobody's."""
    if request.param == "folder":
        return store_in(tmp_path)
    bucket = new_bucket(request.getfixturevalue("s3"))
    return ArtifactStore(bucket.url, s3=bucket.access)


@pytest.fixture
async def store(plane: Cell, empty: ArtifactStore) -> ArtifactStore:
    """The plane's own store, as its first sweep has left it."""
    await sweeper(plane, empty).run_once()
    assert empty.owner() == StoreOwner(plane.keys.cell, await plane.log.identity())
    return empty


async def test_what_a_lost_attempt_uploaded_is_deleted_once_another_has_succeeded(
    plane: Cell, store: ArtifactStore
) -> None:
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


async def test_the_folder_of_a_task_that_is_gone_is_deleted(
    plane: Cell, store: ArtifactStore
) -> None:
    gone = str(uuid.uuid4())
    upload(store, gone, attempt=1, content=b"x")
    await sweeper(plane, store).run_once()
    assert list(store.list_task_folders()) == []


async def test_what_is_young_stays(plane: Cell, store: ArtifactStore) -> None:
    stored = upload(store, str(uuid.uuid4()), attempt=1, content=b"x")
    await sweeper(plane, store, after=NO_TIME).run_once()
    assert store.get(stored.key) == b"x"


async def test_what_an_unknown_output_may_refer_to_stays(plane: Cell, store: ArtifactStore) -> None:
    """Its task was finished by a worker of a newer version."""
    task = await running(plane)
    stored = upload(store, task.id, attempt=1, content=b"x")
    output = AnyMessage(type_url="type.googleapis.com/callsheet.tasks.v9.FilmOutput", value=b"")
    packed = output.SerializeToString()
    await plane.attempts().succeed(task, attempt=1, output=packed, usage=Usage())
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_what_an_unreadable_task_may_refer_to_stays(
    plane: Cell, store: ArtifactStore
) -> None:
    task: Task = await running(plane)
    stored = upload(store, task.id, attempt=1, content=b"x")
    await plane.store.commit([Commit(task.id, expected=task.sequence, record=b"\x08\x63")])
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_the_store_of_another_ledger_is_left_alone_and_that_is_told(
    plane: Cell, store: ArtifactStore, redis: Redis
) -> None:
    """As with a REDIS_URL of another plane: there, every task would seem to be gone."""
    stored = upload(store, str(uuid.uuid4()), attempt=1, content=b"x")
    other = redis_cell(RedisConnection(redis), f"{plane.keys.cell}-b")
    with capture_logs() as logged:
        await sweeper(other, store).run_once()
    assert store.get(stored.key) == b"x"
    (told,) = logged
    assert (told["event"], told["log_level"]) == ("artifacts_of_another_ledger", "error")
    assert told["owner_ledger"] == await plane.log.identity()


async def test_a_ledger_that_was_emptied_is_another_one(
    plane: Cell, store: ArtifactStore, redis: Redis
) -> None:
    stored = upload(store, str(uuid.uuid4()), attempt=1, content=b"x")
    await redis.delete(plane.keys.identity)
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_a_store_of_unknown_tasks_is_not_claimed_and_that_is_told(
    plane: Cell, empty: ArtifactStore
) -> None:
    """Nobody has claimed it, but it is not ours either, as far as can be told."""
    stored = upload(empty, str(uuid.uuid4()), attempt=1, content=b"x")
    with capture_logs() as logged:
        await sweeper(plane, empty).run_once()
    assert empty.get(stored.key) == b"x"
    assert empty.owner() is None
    assert [line["event"] for line in logged] == ["artifacts_not_claimed"]


async def test_a_store_in_which_a_task_is_known_is_claimed(
    plane: Cell, empty: ArtifactStore
) -> None:
    """It is older than the marker, or its first artifact came before the first sweep."""
    task = await running(plane)
    upload(empty, task.id, attempt=1, content=b"x")
    gone = str(uuid.uuid4())
    upload(empty, gone, attempt=1, content=b"x")
    await sweeper(plane, empty).run_once()
    assert [folder.task_id for folder in empty.list_task_folders()] == [task.id]
    assert empty.owner() is not None


async def test_a_store_whose_marker_cannot_be_read_is_left_alone(
    plane: Cell, tmp_path: Path
) -> None:
    store = store_in(tmp_path)
    stored = upload(store, str(uuid.uuid4()), attempt=1, content=b"x")
    (tmp_path / "artifacts" / OWNER_KEY).write_text("mine")
    await sweeper(plane, store).run_once()
    assert store.get(stored.key) == b"x"


async def test_a_store_that_cannot_be_listed_is_tried_again_later(
    plane: Cell, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    assert await sweeper(plane, store_in(tmp_path)).run_once() > NO_TIME
