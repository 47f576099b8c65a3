"""The client speaks the protocol, and not only with servers that were written beside it."""

from pathlib import Path
from typing import cast

import pytest

from callsheet.brain.errors import BrainError
from callsheet.brain.tools import Tool
from tests.support.brains import client_of, connected
from tests.support.other_brain import INSTALLED, other_brain

RENAMED = ("store_knowledge=create_entities", "query_knowledge=search_nodes")


@pytest.mark.skipif(
    not INSTALLED.is_dir(), reason="the other brain is not installed: `make test` does it from npm"
)
async def test_it_initialises_lists_and_calls_the_reference_memory_server(tmp_path: Path) -> None:
    async with other_brain(tmp_path) as url, client_of(url, token="", renamed=RENAMED) as brain:
        await connected(brain)
        assert brain.offers(Tool.STORE_KNOWLEDGE)
        assert not brain.offers(Tool.STORE_TASK_EVENTS)
        entity = {"name": "Mio", "entityType": "cat", "observations": ["is afraid of rain"]}
        await brain.connection.call(Tool.STORE_KNOWLEDGE, {"entities": [entity]})
        found = await brain.connection.call(Tool.QUERY_KNOWLEDGE, {"query": "rain"})
        assert cast("dict[str, object]", found)["entities"] == [entity]
        # What it cannot make sense of is an error, and the connection goes on.
        with pytest.raises(BrainError):
            await brain.connection.call(Tool.STORE_KNOWLEDGE, {"entities": "no list"})
        health = await brain.health_check()
    assert (health.status, "memory" in health.version) == ("ok", True)
