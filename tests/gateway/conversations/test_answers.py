"""Answers: an identical query is answered from the cache until something new is said."""

from pathlib import Path

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.gateways import RunningGateway, running_gateway_plane

SESSIONS = "/api/v1/sessions"


async def path_of_one(http: httpx.AsyncClient) -> str:
    return f"{SESSIONS}/{(await http.post(SESSIONS)).json()['session_id']}"


async def found(http: httpx.AsyncClient, path: str, query: str) -> str | None:
    answer = await http.post(f"{path}/query", json={"query": query})
    assert answer.status_code == 200, answer.text
    assert answer.json()["cached"] is (answer.json()["answer"] is not None)
    return answer.json()["answer"]


async def keep(http: httpx.AsyncClient, path: str, query: str, answer: str) -> httpx.Response:
    return await http.post(f"{path}/answers", json={"query": query, "answer": answer})


async def test_an_identical_query_is_answered_until_something_new_is_said(
    gateway: RunningGateway,
) -> None:
    http = gateway.http
    path = await path_of_one(http)
    assert await found(http, path, "who?") is None
    assert (await keep(http, path, "who?", "the keeper")).json() == {"kept": True, "sequence": 0}
    assert await found(http, path, "who?") == "the keeper"
    assert await found(http, path, "Who?") is None
    await http.post(f"{path}/messages", json={"role": "user", "content": "news"})
    assert await found(http, path, "who?") is None


async def test_an_answer_to_what_the_conversation_was_is_refused(gateway: RunningGateway) -> None:
    """Somebody spoke while the answer was being made."""
    http = gateway.http
    path = await path_of_one(http)
    await http.post(f"{path}/messages", json={"role": "user", "content": "news"})
    body = {"query": "who?", "answer": "nobody", "sequence": 0}
    late = await http.post(f"{path}/answers", json=body)
    assert (late.status_code, late.json()["reason"]) == (409, "SESSION_MOVED_ON")
    assert await found(http, path, "who?") is None


async def test_answers_of_two_conversations_are_apart(gateway: RunningGateway) -> None:
    one, other = [await path_of_one(gateway.http) for _ in range(2)]
    await keep(gateway.http, one, "who?", "the keeper")
    assert await found(gateway.http, other, "who?") is None


async def test_answers_go_with_their_conversation(gateway: RunningGateway, cell: str) -> None:
    path = await path_of_one(gateway.http)
    kept = f"callsheet:{{{cell}}}:cache:answers:{path.rpartition('/')[2]}"
    await keep(gateway.http, path, "who?", "the keeper")
    assert await gateway.gateway.beside.cache.command("EXISTS", kept) == 1
    await gateway.http.delete(path)
    assert await gateway.gateway.beside.cache.command("EXISTS", kept) == 0


async def test_so_many_answers_are_kept_and_no_more(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.gateway.conversations.answers.MOST_ANSWERS", 2)
    path = await path_of_one(gateway.http)
    for number in range(3):
        await keep(gateway.http, path, f"query {number}", "answer")
    assert await found(gateway.http, path, "query 2") == "answer"
    assert await found(gateway.http, path, "query 0") is None


async def test_a_query_has_a_limit(gateway: RunningGateway) -> None:
    path = await path_of_one(gateway.http)
    for body in ({"query": "x" * 8193}, {"query": ""}, {}):
        answer = await gateway.http.post(f"{path}/query", json=body)
        assert answer.json()["violations"][0]["field"] == "query"


async def test_without_the_cache_every_query_is_a_new_one(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    cache = EmbeddedValkey(tmp_path / "cache")
    cache.start()
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, cache_redis_url=cache.url
    ) as gateway:
        path = await path_of_one(gateway.http)
        assert (await keep(gateway.http, path, "who?", "the keeper")).json()["kept"] is True
        cache.stop()
        answer = (await gateway.http.post(f"{path}/query", json={"query": "who?"})).json()
        assert (answer["cached"], answer["cache"]) == (False, "unavailable")
        kept = await keep(gateway.http, path, "who?", "the keeper")
        assert (kept.status_code, kept.json()["kept"]) == (200, False)
        said = {"role": "user", "content": "still there"}
        assert (await gateway.http.post(f"{path}/messages", json=said)).status_code == 201
        assert (await gateway.http.delete(path)).status_code == 204
