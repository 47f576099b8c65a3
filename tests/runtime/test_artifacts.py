"""The artifact store is the one that the environment names."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.settings import SettingsError, load_settings
from tests.support.buckets import Bucket, new_bucket, s3_endpoint


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_endpoint() as endpoint:
        yield new_bucket(endpoint)


def test_artifacts_go_to_the_bucket_and_are_told_of_by_the_public_url(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("R2_PUBLIC_URL", "https://media.example")
    store = artifact_store(load_settings())
    stored = store.put(
        b"x",
        project="film",
        task_id=str(uuid.uuid4()),
        attempt=1,
        media_type="image/png",
        suffix="png",
    )
    assert stored.uri == f"https://media.example/{stored.key}"
    assert store.get(stored.key) == b"x"


def test_without_a_bucket_artifacts_go_to_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALLSHEET_STATE_DIR", str(tmp_path))
    assert artifact_store(load_settings()).owner() is None
    assert (tmp_path / "artifacts").is_dir()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("CALLSHEET_S3_ENDPOINT", "r2.example", "must be a URL of https:// or http://"),
        ("CALLSHEET_S3_ENDPOINT", "https://me:it@r2.example", "must be a URL of https://"),
        ("CALLSHEET_S3_REGION", "EU West", "must be a region"),
        ("CALLSHEET_S3_SECRET_ACCESS_KEY", "sécret", "must be 1 to 1024 printable"),
        ("PAYLOAD_API_KEY", "a\nb", "must be 1 to 1024 printable"),
        ("CALLSHEET_PAYLOAD_MEDIA_COLLECTION", "../users", "must be letters, digits"),
        ("CALLSHEET_PAYLOAD_TIME_LIMIT_SECONDS", "0", "must be 1 to 600 seconds"),
        ("CALLSHEET_MEDIA_WAIT_SECONDS", "-1", "must be 0 to 3600 seconds"),
    ],
)
def test_a_bad_value_is_refused_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable}: {complaint}")
    assert ("SECRET" not in variable and "KEY" not in variable) or value not in problem
