"""Where lives are played, one for each module that sweeps them."""

from collections.abc import Generator

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.chaos.sweep.stage import Stage, stage_for


@pytest.fixture(scope="module")
def stage(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Stage]:
    """A stage with its brain, and every role's requests counted."""
    with stage_for(valkey_server, tmp_path_factory.mktemp("stage")) as found:
        yield found
