"""A control plane for each test, in this process and on a real port."""

from collections.abc import AsyncIterator

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.controls import Client, Plane, running_plane


@pytest.fixture
async def plane(valkey_server: EmbeddedValkey, cell: str) -> AsyncIterator[Plane]:
    """A control plane over a fresh cell."""
    async with running_plane(valkey_server.url, cell) as plane:
        yield plane


@pytest.fixture
def client(plane: Plane) -> Client:
    """The client of the plane's default project."""
    return plane.client
