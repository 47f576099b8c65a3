"""One small brain for a whole module, which knows nothing and behaves when a test begins."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from callsheet.brain.brain import Brain
from tests.support.brains import TOKEN, SmallBrainProcess, client_of, connected


@pytest.fixture(scope="module")
def brain_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallBrainProcess]:
    """A brain that asks for the token."""
    process = SmallBrainProcess(tmp_path_factory.mktemp("brain"), token=TOKEN)
    asyncio.run(process.start())
    yield process
    process.kill()


@pytest.fixture
def small_brain(brain_process: SmallBrainProcess) -> SmallBrainProcess:
    """The brain, which knows nothing and behaves."""
    brain_process.forget()
    return brain_process


@pytest.fixture
async def brain(small_brain: SmallBrainProcess) -> AsyncIterator[Brain]:
    """A client, connected."""
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        yield brain
