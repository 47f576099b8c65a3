"""Hosts of runners."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callsheet.worker.runner_host import RunnerHost
from tests.support.runners import (
    SCRIPTED,
    environment,
)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runners of this module: the tiny model is built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
async def host(tmp_path: Path, cache_dir: Path) -> AsyncIterator[RunnerHost]:
    """A host of scripted runners."""
    host = RunnerHost(
        "cpu", command=SCRIPTED, environment=environment(tmp_path, cache_dir=cache_dir)
    )
    yield host
    await host.close()
