"""A gateway for each test, in this process and on a real port, with a control plane behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.gateways import RunningGateway, running_gateway_plane


@pytest.fixture
async def gateway(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway before a control plane over a fresh cell."""
    async with running_gateway_plane(valkey_server.url, cell, tmp_path) as running:
        yield running
