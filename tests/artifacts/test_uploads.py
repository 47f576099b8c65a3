"""Uploads: the same bytes are one upload, read in parts, and gone when nobody brings them again."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callsheet.artifacts.errors import ArtifactNotFound, KeyRefused
from callsheet.artifacts.store import PART, ArtifactStore, StoredArtifact
from callsheet.artifacts.sweep import sweep_uploads
from tests.support.buckets import Bucket

CONTENT = bytes(range(256)) * (PART // 256) + b"and the rest"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """Every kind of store: what one does, all must do."""
    if request.param == "folder":
        yield ArtifactStore((tmp_path / "artifacts").as_uri())
        return
    bucket: Bucket = request.getfixturevalue("bucket")
    yield ArtifactStore(bucket.url, s3=bucket.access)


def put(store: ArtifactStore, folder: Path, content: bytes = CONTENT) -> StoredArtifact:
    """Upload the bytes, as a file."""
    path = folder / "file"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return store.put_upload(
        path, project="film", sha256=digest, media_type="video/mp4", suffix="mp4"
    )


async def read(store: ArtifactStore, key: str, start: int, end: int) -> bytes:
    """Return the bytes from start to end."""
    return b"".join([piece async for piece in store.read(key, start=start, end=end)])


async def test_an_upload_is_read_whole_and_in_part(store: ArtifactStore, tmp_path: Path) -> None:
    stored = put(store, tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert stored.key == f"projects/film/uploads/{digest[:32]}.mp4"
    assert (stored.size, await store.size(stored.key)) == (len(CONTENT), len(CONTENT))
    assert await read(store, stored.key, 0, len(CONTENT)) == CONTENT
    assert await read(store, stored.key, 1000, 1256) == CONTENT[1000:1256]
    assert await read(store, stored.key, 5, 5) == b""
    assert put(store, tmp_path) == stored
    assert [each.key for each in store.list_uploads()] == [stored.key]


async def test_what_is_not_there_is_not_found(store: ArtifactStore) -> None:
    key = f"projects/film/uploads/{'0' * 32}.mp4"
    with pytest.raises(ArtifactNotFound):
        await store.size(key)
    with pytest.raises(ArtifactNotFound):
        await read(store, key, 0, 1)


@pytest.mark.parametrize(
    "key",
    [
        "callsheet-owner.json",
        "projects/film/uploads/../../../etc/passwd",
        f"projects/film/uploads/{'0' * 31}.mp4",
        f"projects/film/uploads/{'0' * 32}.mp4/x",
        "",
    ],
)
async def test_no_other_key_is_read(store: ArtifactStore, key: str) -> None:
    with pytest.raises(KeyRefused):
        await store.size(key)
    with pytest.raises(KeyRefused):
        await read(store, key, 0, 1)


async def test_an_upload_goes_when_nobody_brings_it_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    put(store, tmp_path, b"first")
    put(store, tmp_path, b"second")
    store.put(
        b"an artifact",
        project="film",
        task_id="3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        attempt=1,
        media_type="image/png",
        suffix="png",
    )
    now = datetime.now(UTC)  # noqa: TID251  # stores bear the system's time
    month = timedelta(days=30)
    assert await sweep_uploads(store, older_than=month, now=now) == 0
    assert await sweep_uploads(store, older_than=month, now=now + month + timedelta(hours=1)) == 2
    assert list(store.list_uploads()) == []
    assert len(list(store.list_task_folders())) == 1
