"""One plane, one gateway and one Chromium for all tests of this folder."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.browsers import CHROMIUM
from tests.support.dashboards import Stage, running_stage


@pytest.fixture(scope="session")
def chromium() -> None:
    """Skip, and say what to do."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `make test` installs it where apt-get can")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(
    chromium: None, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> AsyncGenerator[Stage]:
    """A stage that runs, ended at the end."""
    async with running_stage(tmp_path_factory.mktemp("stage"), cache=cache_dir) as running:
        yield running
