"""One embedded brain for all tests of it: whoever kills one has their own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callsheet.brain.brain import Brain
from callsheet.embedded.brain.graph import Graph
from tests.support.brains import connected
from tests.support.embedded_brains import EmbeddedBrain


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBrain]:
    """A brain that runs."""
    brain = EmbeddedBrain(tmp_path_factory.mktemp("state")).start()
    yield brain
    assert brain.stop() == 0


@pytest.fixture
async def client(server: EmbeddedBrain) -> AsyncIterator[Brain]:
    """A client of it, connected."""
    async with server.client() as client:
        await connected(client)
        yield client


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[Graph]:
    """A graph of the test's own."""
    async with Graph(tmp_path / "brain") as graph:
        yield graph
