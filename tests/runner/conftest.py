"""What tests of rendering share."""

from pathlib import Path

import pytest

from tests.support.stages import Stage


@pytest.fixture(scope="session")
def stage(cache_dir: Path) -> Stage:
    """The built-in models, each loaded when it is first asked for."""
    return Stage(cache_dir)
