"""The REST route of a brain that has no tool for what a project knows."""

import asyncio
import json
from datetime import timedelta

import pytest

from callsheet.brain.errors import AnswerMalformed, BrainError, BrainRefused, BrainUnavailable
from callsheet.brain.knowledge import KnowledgeRoute
from tests.support.brains import SmallBrainProcess, client_of, connected
from tests.support.receiver import Receiver, Reply

ITEMS = {"items": [{"source": "bible", "text": "The detective limps.", "score": 0.8, "new": 1}]}
KNOWN = Reply(body=json.dumps(ITEMS).encode())


def route_to(receiver: Receiver, *, seconds: float = 10) -> KnowledgeRoute:
    """Return the route."""
    url = f"http://127.0.0.1:{receiver.port}/"
    return KnowledgeRoute(url, token="t0k", time_limit=timedelta(seconds=seconds))


async def test_it_asks_as_the_platform_documents_it() -> None:
    async with Receiver(KNOWN) as receiver:
        route = route_to(receiver)
        found = await route.query(
            "detective_series_001",
            "Detective protagonist personality traits",
            context_type="character_context",
            limit=5,
        )
        await route.aclose()
    (asked,) = receiver.received
    assert asked.path == "/api/v1/knowledge/query"
    assert asked.headers["authorization"] == "Bearer t0k"
    assert asked.json() == {
        "project_id": "detective_series_001",
        "query": "Detective protagonist personality traits",
        "context_type": "character_context",
        "limit": 5,
    }
    assert [(item.source, item.text) for item in found] == [("bible", "The detective limps.")]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(503), BrainUnavailable),
        (Reply(429), BrainUnavailable),
        (Reply(cut=True), BrainUnavailable),
        (Reply(403, body=b"not yours"), BrainRefused),
        (Reply(302, headers={"location": "http://127.0.0.1:1/"}), BrainRefused),
        (Reply(body=b"<html>"), AnswerMalformed),
        (Reply(body=b'{"items": [{"source": 1}]}'), AnswerMalformed),
        (Reply(body=b"[" * 5_000_000), AnswerMalformed),
    ],
    ids=["503", "429", "cut", "403", "302", "html", "malformed", "endless"],
)
async def test_every_other_answer_has_its_error(reply: Reply, error: type[BrainError]) -> None:
    async with Receiver(reply) as receiver:
        route = route_to(receiver)
        with pytest.raises(error):
            await route.query("p", "who?")
        await route.aclose()
    assert len(receiver.received) == 1


async def test_a_route_that_hangs_is_left_in_time() -> None:
    async with Receiver(Reply(after=asyncio.Event())) as receiver:
        route = route_to(receiver, seconds=0.1)
        with pytest.raises(BrainUnavailable):
            await route.query("p", "who?")
        await route.aclose()


async def test_it_is_asked_where_the_brain_has_no_tool(small_brain: SmallBrainProcess) -> None:
    small_brain.feels(tools=["health_check"])
    async with Receiver(KNOWN) as receiver:
        url = f"http://127.0.0.1:{receiver.port}"
        async with client_of(small_brain.url, knowledge_url=url) as brain:
            await connected(brain)
            (item,) = await brain.query_knowledge("p", "who?", limit=1)
    assert item.text == "The detective limps."
