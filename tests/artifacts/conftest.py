"""An S3 API for each module, and a bucket for each test."""

from collections.abc import Iterator

import pytest

from tests.support.buckets import Bucket, new_bucket, s3_endpoint


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a running S3 API."""
    with s3_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """An empty bucket."""
    return new_bucket(s3)
