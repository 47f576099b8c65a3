"""The artifact store, on a real folder and on a real S3 API."""

import hashlib
import io
import resource
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from obstore.exceptions import GenericError

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactStoreError, KeyRefused, reason_of
from callsheet.artifacts.ownership import OWNER_KEY, StoreOwner
from callsheet.artifacts.store import ArtifactStore, StoredArtifact
from tests.support.buckets import Bucket

TASK: Final = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
CONTENT: Final = b"pixels"
PUBLIC: Final = "https://cdn.example/films/"
DIGEST: Final = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """Every kind of store, in turn: what one does, all must do."""
    if request.param == "folder":
        return ArtifactStore(tmp_path.as_uri(), public_url=PUBLIC)
    bucket: Bucket = request.getfixturevalue("bucket")
    return ArtifactStore(bucket.url, public_url=PUBLIC, s3=bucket.access)


def put(
    store: ArtifactStore,
    content: bytes | Path = CONTENT,
    *,
    project: str = "test_project",
    task_id: str = TASK,
    attempt: int = 1,
    media_type: str = "image/png",
    suffix: str = "png",
) -> StoredArtifact:
    return store.put(
        content,
        project=project,
        task_id=task_id,
        attempt=attempt,
        media_type=media_type,
        suffix=suffix,
    )


def test_an_artifact_is_named_by_its_task_its_attempt_and_its_digest(store: ArtifactStore) -> None:
    stored = put(store, attempt=2)
    key = f"projects/test_project/tasks/{TASK}/2-{DIGEST[:32]}.png"
    assert stored == StoredArtifact(
        key=key, uri=f"https://cdn.example/films/{key}", sha256=DIGEST, size=len(CONTENT)
    )
    assert store.get(key) == CONTENT


def test_the_same_bytes_of_the_same_attempt_are_one_artifact(store: ArtifactStore) -> None:
    assert put(store) == put(store)
    assert len(store.list_keys("test_project", TASK)) == 1


def test_another_attempt_overwrites_nothing(store: ArtifactStore) -> None:
    first, second = put(store), put(store, attempt=2)
    assert sorted(store.list_keys("test_project", TASK)) == [first.key, second.key]


def test_an_artifact_that_is_not_there_is_not_found(store: ArtifactStore) -> None:
    key = f"projects/test_project/tasks/{TASK}/1-{DIGEST[:32]}.png"
    with pytest.raises(ArtifactNotFound, match="there is no artifact projects/"):
        store.get(key)


def test_a_file_is_stored_as_its_bytes_would_be(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(CONTENT)
    assert put(store, tmp_path / "film.mp4") == put(store)


def test_an_artifact_is_fetched_into_a_file_with_its_digest(store: ArtifactStore) -> None:
    stored, into = put(store), io.BytesIO()
    assert store.fetch(stored.key, into, limit=len(CONTENT)) == DIGEST
    assert into.getvalue() == CONTENT


def test_more_than_the_limit_is_not_fetched(store: ArtifactStore) -> None:
    stored = put(store)
    with pytest.raises(ArtifactStoreError, match="has more than 5 bytes"):
        store.fetch(stored.key, io.BytesIO(), limit=5)


def test_a_store_is_nobodys_until_it_is_claimed_and_then_its_first_claimants(
    store: ArtifactStore,
) -> None:
    first, second = StoreOwner("local", "a1"), StoreOwner("local", "b2")
    assert store.owner() is None
    assert store.claim(first) == first
    assert store.claim(second) == first
    assert store.owner() == first
    assert list(store.list_task_folders()) == []


@pytest.mark.parametrize("project", ["", "..", "a/b", "a b", ".a", "a" * 65, "ä", "a\n"])
def test_a_project_that_is_no_project_is_refused(store: ArtifactStore, project: str) -> None:
    with pytest.raises(KeyRefused):
        put(store, project=project)


@pytest.mark.parametrize("task_id", ["", "..", TASK.upper(), TASK[:-1], f"{TASK}/..", f"{TASK}\n"])
def test_a_task_id_that_is_no_uuid_is_refused(store: ArtifactStore, task_id: str) -> None:
    with pytest.raises(KeyRefused):
        put(store, task_id=task_id)
    with pytest.raises(KeyRefused):
        store.delete_task_folder("test_project", task_id)


@pytest.mark.parametrize("suffix", ["", "PNG", "p/g", ".png", "png#1", "tar.gz"])
def test_a_suffix_that_is_none_is_refused(store: ArtifactStore, suffix: str) -> None:
    with pytest.raises(KeyRefused):
        put(store, suffix=suffix)


def test_an_attempt_counts_from_one(store: ArtifactStore) -> None:
    with pytest.raises(KeyRefused):
        put(store, attempt=0)


@pytest.mark.parametrize("key", ["", "../secret", "projects/a/tasks/b/c", "/etc/passwd"])
def test_a_key_that_the_store_never_made_is_not_read(store: ArtifactStore, key: str) -> None:
    with pytest.raises(KeyRefused):
        store.get(key)


def test_every_task_folder_is_listed_once_with_its_newest_time(store: ArtifactStore) -> None:
    before = datetime.fromtimestamp(int(_now().timestamp()), UTC)
    other = str(uuid.uuid4())
    put(store)
    put(store, b"more")
    put(store, task_id=other, project="b")
    folders = list(store.list_task_folders())
    assert {(f.project, f.task_id) for f in folders} == {("test_project", TASK), ("b", other)}
    assert len(folders) == 2
    assert all(before <= folder.modify_time <= _now() for folder in folders)


def test_a_store_without_artifacts_lists_none(store: ArtifactStore) -> None:
    assert list(store.list_task_folders()) == []
    assert store.list_keys("test_project", TASK) == []


def test_a_deleted_task_folder_is_gone_and_may_be_deleted_again(store: ArtifactStore) -> None:
    other = put(store, task_id=str(uuid.uuid4()))
    put(store)
    store.delete_task_folder("test_project", TASK)
    store.delete_task_folder("test_project", TASK)
    assert store.list_keys("test_project", TASK) == []
    assert store.get(other.key) == CONTENT


def test_only_keys_of_the_task_are_deleted_with_it(store: ArtifactStore) -> None:
    kept, dropped = put(store), put(store, b"more")
    store.delete_keys("test_project", TASK, [dropped.key])
    assert store.list_keys("test_project", TASK) == [kept.key]
    with pytest.raises(ArtifactStoreError, match="is no artifact of task"):
        store.delete_keys("test_project", str(uuid.uuid4()), [kept.key])


def test_what_a_broken_write_left_is_seen_and_deleted(tmp_path: Path) -> None:
    """A process that dies in a write leaves a file that no listing of objects shows."""
    # Given the only trace of a task: a half-written file
    store = ArtifactStore(tmp_path.as_uri())
    folder = tmp_path / "projects" / "test_project" / "tasks" / TASK
    folder.mkdir(parents=True)
    (folder / "1-abc.png#1").write_bytes(b"half")
    # Then it is listed, and deleted with its folder
    assert [found.task_id for found in store.list_task_folders()] == [TASK]
    assert len(store.list_keys("test_project", TASK)) == 1
    store.delete_task_folder("test_project", TASK)
    assert not folder.exists()


def test_what_is_no_task_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "projects" / "test_project" / "tasks" / "notes").mkdir(parents=True)
    (tmp_path / "projects" / "lost+found" / "tasks" / TASK).mkdir(parents=True)
    (tmp_path / "projects" / "b").symlink_to(tmp_path)
    assert list(ArtifactStore(tmp_path.as_uri()).list_task_folders()) == []


def test_a_write_that_the_disk_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    put(store)
    with _largest_file(1000), pytest.raises(ArtifactStoreError) as caught:
        put(store, b"x" * 100_000)
    assert caught.value.message == "an artifact could not be stored: file too large"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"1-{DIGEST[:32]}.png"]


def test_a_full_disk_is_named_as_such() -> None:
    error = GenericError(
        "Generic LocalFileSystem error: Unable to copy data to file: No space left on device"
        " (os error 28)\n\nDebug source:\nGeneric {"
    )
    assert reason_of(error) == "no space left on device"
    assert reason_of(GenericError("Generic S3 error: slow down\n\nDebug source:")) == (
        "Generic S3 error: slow down"
    )


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file stands where the folder should")
    with pytest.raises(ArtifactStoreError) as caught:
        put(ArtifactStore((tmp_path / "artifacts").as_uri()))
    assert caught.value.message.startswith("an artifact could not be stored: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("marker", [b"", b"{}", b'{"version": 2}', b"[" * 9999, b"7", b"\xff"])
def test_a_marker_that_does_not_say_whose_the_store_is_is_an_error(
    tmp_path: Path, marker: bytes
) -> None:
    (tmp_path / OWNER_KEY).write_bytes(marker)
    with pytest.raises(ArtifactStoreError, match="does not say whose it is"):
        ArtifactStore(tmp_path.as_uri()).owner()


@pytest.mark.parametrize("url", ["artifacts", "/srv/artifacts", "file://host/srv"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(ArtifactStoreError):
        ArtifactStore(url)


def test_an_unknown_scheme_is_one_clear_sentence() -> None:
    with pytest.raises(ArtifactStoreError, match="an artifact could not be stored: "):
        put(ArtifactStore("gopher://store"))


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - compared with the clock of the file system


@contextmanager
def _largest_file(size: int) -> Generator[None]:
    """Let this process write no file beyond a size, as a disk does when it is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
