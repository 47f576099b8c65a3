"""Hosts of runners."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callsheet.worker.runner_host import RunnerHost
from tests.support.runners import (
    SCRIPTED,
    environment,
)


@pytest.fixture
async def host(tmp_path: Path, cache_dir: Path) -> AsyncIterator[RunnerHost]:
    """A host of scripted runners."""
    host = RunnerHost(
        "cpu",
        command=SCRIPTED,
        environment=environment(tmp_path, cache_dir=cache_dir),
        imports_ahead=False,
    )
    yield host
    await host.close()
