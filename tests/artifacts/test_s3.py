"""What is told of an object store alone: parts, headers, and clear reasons."""

import hashlib
import io
import json
from pathlib import Path
from typing import Final

import obstore
import pytest
from obstore.store import S3Store

from callsheet.artifacts.access import S3Access
from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.store import PART, ArtifactStore, StoredArtifact
from tests.support.buckets import Bucket

TASK: Final = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def put(store: ArtifactStore, content: bytes | Path) -> StoredArtifact:
    return store.put(
        content, project="film", task_id=TASK, attempt=1, media_type="video/mp4", suffix="mp4"
    )


@pytest.fixture
def store(bucket: Bucket) -> ArtifactStore:
    return ArtifactStore(bucket.url, s3=bucket.access)


def served(bucket: Bucket, stored: StoredArtifact) -> dict[str, str]:
    """Return the headers that tell of an object, by whoever asks."""
    objects = S3Store.from_url(
        bucket.url, config=bucket.access.config, client_options=bucket.access.client_options
    )
    found = obstore.get(objects, stored.key)
    return {"ETag": str(found.meta["e_tag"]).strip('"'), **found.attributes}


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(
    store: ArtifactStore, bucket: Bucket, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (2 * PART // 256) + b"the rest"
    (tmp_path / "film.mp4").write_bytes(content)
    stored, into = put(store, tmp_path / "film.mp4"), io.BytesIO()
    assert stored.size == len(content)
    assert store.fetch(stored.key, into, limit=stored.size) == stored.sha256
    assert into.getvalue() == content
    # S3's own mark of an upload in three parts
    assert served(bucket, stored)["ETag"].endswith("-3")


def test_bytes_are_served_with_their_type_and_may_be_cached_for_ever(
    store: ArtifactStore, bucket: Bucket
) -> None:
    attributes = served(bucket, put(store, b"film"))
    assert attributes["Content-Type"] == "video/mp4"
    assert "immutable" in attributes["Cache-Control"]


def test_without_a_public_url_the_uri_is_the_buckets(store: ArtifactStore, bucket: Bucket) -> None:
    stored = put(store, b"film")
    assert stored.uri == f"s3://{bucket.name}/callsheet/{stored.key}"
    assert stored.sha256 == hashlib.sha256(b"film").hexdigest()


def test_a_bucket_that_is_not_there_is_one_clear_sentence(bucket: Bucket) -> None:
    store = ArtifactStore("s3://no-such-bucket/x", s3=bucket.access)
    for attempt in (lambda: put(store, b"film"), store.owner):
        with pytest.raises(ArtifactStoreError) as caught:
            attempt()
        assert caught.value.message.endswith(": NoSuchBucket: The specified bucket does not exist")


def test_an_endpoint_that_is_away_is_an_error_without_the_secret(bucket: Bucket) -> None:
    away = S3Access("http://127.0.0.1:1", "an-access-key", "a-secret-key", "auto")
    assert "a-secret-key" not in repr(away)
    with pytest.raises(ArtifactStoreError, match="an artifact could not be stored: ") as caught:
        put(ArtifactStore(bucket.url, s3=away), b"film")
    assert "a-secret-key" not in caught.value.message
    assert "\n" not in caught.value.message


def test_an_endpoint_is_reached_without_tls_only_where_it_says_so() -> None:
    assert S3Access("http://127.0.0.1:9000").client_options.get("allow_http") is True
    assert S3Access("https://r2.example").client_options.get("allow_http") is False
    assert S3Access().client_options.get("allow_http") is False


def test_what_is_not_given_is_left_to_the_environment() -> None:
    assert json.dumps(S3Access().config) == "{}"
    assert S3Access(endpoint="https://r2.example/").config == {"endpoint": "https://r2.example"}
