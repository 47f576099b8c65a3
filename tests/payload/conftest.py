"""One real PayloadCMS for all tests of this folder; where it is not installed they are skipped."""

from collections.abc import Iterator

import pytest

from tests.support.payload_cms import INSTALLED, PayloadCms


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip, and say what to do."""
    if not (INSTALLED / "payload").is_dir():
        pytest.skip("PayloadCMS is not installed: `make test-payload` installs it from npm")


@pytest.fixture(scope="session")
def payload(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PayloadCms]:
    """A running PayloadCMS; whoever kills it starts it again."""
    server = PayloadCms(tmp_path_factory.mktemp("payload") / "cms")
    server.start()
    yield server
    server.kill()
