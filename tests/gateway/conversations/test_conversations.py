"""Conversations: begun, read, continued, listed and forgotten, each by who may."""

from typing import Any, Final

import httpx
import pytest

from callsheet.gateway.conversations import history as reading
from callsheet.gateway.conversations import model
from tests.support.gateways import RunningGateway

SESSIONS = "/api/v1/sessions"


async def begun(http: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await http.post(SESSIONS, json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def said(
    http: httpx.AsyncClient, session_id: str, content: str, **fields: object
) -> dict[str, Any]:
    body = {"role": "user", "content": content, **fields}
    answer = await http.post(f"{SESSIONS}/{session_id}/messages", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def contents(http: httpx.AsyncClient, session_id: str, **query: int) -> list[str]:
    answer = await http.get(f"{SESSIONS}/{session_id}/messages", params=query)
    assert answer.status_code == 200, answer.text
    return [each["content"] for each in answer.json()["messages"]]


async def test_a_conversation_is_begun_and_read(gateway: RunningGateway) -> None:
    session = await begun(gateway.http, metadata={"film": "Lighthouse"})
    assert session["project_id"] == "default"
    assert session["sequence"] == 0
    assert session["time_to_live"] == 86_400
    answer = await gateway.http.get(f"{SESSIONS}/{session['session_id']}")
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"film": "Lighthouse"}
    assert answer.json()["create_time"] == session["create_time"]


async def test_a_body_is_not_needed(gateway: RunningGateway) -> None:
    assert (await gateway.http.post(SESSIONS)).status_code == 201


async def test_what_is_said_is_read_in_order(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    for content in ("one", "zwei", "三"):
        await said(gateway.http, id_, content)
    last = await said(gateway.http, id_, "four", role="assistant", metadata={"model": "m"})
    assert (last["sequence"], last["role"], last["metadata"]) == (4, "assistant", {"model": "m"})
    assert await contents(gateway.http, id_) == ["one", "zwei", "三", "four"]
    assert await contents(gateway.http, id_, after=2) == ["三", "four"]
    assert await contents(gateway.http, id_, after=1, limit=2) == ["zwei", "三"]
    session = (await gateway.http.get(f"{SESSIONS}/{id_}")).json()
    assert (session["sequence"], session["update_time"]) == (4, last["create_time"])


async def test_a_message_sent_again_is_said_once(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    first = await said(gateway.http, id_, "hello", message_id="m1")
    assert await said(gateway.http, id_, "hello", message_id="m1") == first
    second = await said(gateway.http, id_, "hello", message_id="m2")
    assert second["sequence"] == 2
    await said(gateway.http, id_, "without a name")
    # However much was said since
    assert await said(gateway.http, id_, "hello", message_id="m1") == first
    assert await said(gateway.http, id_, "hello", message_id="m2") == second
    assert await contents(gateway.http, id_) == ["hello", "hello", "without a name"]


async def test_a_message_that_is_no_longer_kept_can_be_said_anew(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    await said(gateway.http, id_, "hello", message_id="m1")
    long = "x" * model.CONTENT_BYTES
    for number in range(model.MOST_BYTES // model.CONTENT_BYTES):
        await said(gateway.http, id_, long, message_id=f"long-{number}")
    path = f"{SESSIONS}/{id_}"
    first = (await gateway.http.get(path)).json()["first_sequence"]
    assert first > 1
    assert (await said(gateway.http, id_, "hello", message_id="m1"))["sequence"] == 10
    # And of what is not kept no id is either
    session = (await gateway.http.get(path)).json()
    kept = session["sequence"] - session["first_sequence"] + 1
    ids = f"callsheet:{{{gateway.settings.cell}}}:conversations:of:{id_}:ids"
    assert await gateway.gateway.beside.sessions.command("HLEN", ids) == kept
    assert (await gateway.http.delete(path)).status_code == 204
    assert await gateway.gateway.beside.sessions.command("EXISTS", ids) == 0


async def test_what_is_known_is_not_sent_again(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    await said(gateway.http, id_, "hello")
    path = f"{SESSIONS}/{id_}/messages"
    etag = (await gateway.http.get(path)).headers["etag"]
    again = await gateway.http.get(path, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    await said(gateway.http, id_, "news")
    assert (await gateway.http.get(path, headers={"if-none-match": etag})).status_code == 200


async def test_a_conversation_is_kept_longer_when_it_is_used(gateway: RunningGateway) -> None:
    session = await begun(gateway.http, time_to_live=120)
    path = f"{SESSIONS}/{session['session_id']}"
    read = (await gateway.http.get(path)).json()
    assert read["expire_time"] > session["expire_time"]
    await said(gateway.http, session["session_id"], "hello")
    assert (await gateway.http.get(path)).json()["expire_time"] > read["expire_time"]


async def test_the_oldest_messages_go_when_there_are_too_many(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.gateway.conversations.store.MOST_TURNS", 3)
    id_ = (await begun(gateway.http))["session_id"]
    for number in range(5):
        await said(gateway.http, id_, str(number))
    assert await contents(gateway.http, id_) == ["2", "3", "4"]
    session = (await gateway.http.get(f"{SESSIONS}/{id_}")).json()
    assert (session["sequence"], session["first_sequence"]) == (5, 3)


async def test_the_oldest_messages_go_when_they_are_too_large(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    content = "x" * (model.CONTENT_BYTES - 100)
    for _ in range(10):
        await said(gateway.http, id_, content)
    kept = await contents(gateway.http, id_)
    assert sum(map(len, kept)) <= model.MOST_BYTES
    assert len(kept) in {7, 8}


async def test_a_list_has_the_last_used_first_and_goes_on_page_by_page(
    gateway: RunningGateway,
) -> None:
    ids = [(await begun(gateway.http))["session_id"] for _ in range(5)]
    await said(gateway.http, ids[1], "used")
    found: list[str] = []
    token = ""
    while True:
        query = {"page_size": 2, "page_token": token}
        page = (await gateway.http.get(SESSIONS, params=query)).json()
        found += [each["session_id"] for each in page["sessions"]]
        token = page["next_page_token"]
        if not token:
            break
    assert found == [ids[1], ids[4], ids[3], ids[2], ids[0]]


async def test_a_conversation_is_forgotten_on_request(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    await said(gateway.http, id_, "hello")
    path = f"{SESSIONS}/{id_}"
    assert (await gateway.http.delete(path)).status_code == 204
    for answer in (
        await gateway.http.get(path),
        await gateway.http.get(f"{path}/messages"),
        await gateway.http.delete(path),
        await gateway.http.post(f"{path}/messages", json={"role": "user", "content": "x"}),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (404, "SESSION_NOT_FOUND")
    assert (await gateway.http.get(SESSIONS)).json()["sessions"] == []


async def test_a_foreign_conversation_is_not_found(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    stranger = await gateway.new_key(projects=frozenset({"elsewhere"}))
    path = f"{SESSIONS}/{id_}"
    async with gateway.client(stranger) as http:
        for answer in (
            await http.get(path),
            await http.get(f"{path}/messages"),
            await http.delete(path),
            await http.post(f"{path}/messages", json={"role": "user", "content": "x"}),
            await http.post(f"{path}/query", json={"query": "x"}),
            await http.post(f"{path}/answers", json={"query": "x", "answer": "y"}),
        ):
            assert (answer.status_code, answer.json()["reason"]) == (404, "SESSION_NOT_FOUND")
        foreign = await http.get(SESSIONS, params={"project_id": "default"})
        assert (foreign.status_code, foreign.json()["reason"]) == (404, "PROJECT_NOT_FOUND")
        made = await http.post(SESSIONS, json={"project_id": "default"})
        assert made.status_code == 404
    assert (await gateway.http.get(path)).json()["sequence"] == 0


async def test_each_needs_its_role(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    path = f"{SESSIONS}/{id_}"
    async with gateway.client(await gateway.new_key(roles=frozenset({"read"}))) as reader:
        assert (await reader.get(path)).status_code == 200
        answer = await reader.post(f"{path}/messages", json={"role": "user", "content": "x"})
        assert (answer.status_code, answer.json()["reason"]) == (403, "ROLE_MISSING")
        assert (await reader.delete(path)).status_code == 403
    async with gateway.client(await gateway.new_key(roles=frozenset({"submit"}))) as writer:
        assert (await writer.get(path)).status_code == 403
    async with gateway.client() as nobody:
        assert (await nobody.get(path)).status_code == 401


#: Messages that are not taken, and the field at fault.
UNFIT: Final[tuple[tuple[dict[str, object], str], ...]] = (
    ({"content": "x"}, "role"),
    ({"role": "user"}, "content"),
    ({"role": "user", "content": ""}, "content"),
    ({"role": "user", "content": "x" * (model.CONTENT_BYTES + 1)}, "content"),
    ({"role": "user", "content": "é" * (model.CONTENT_BYTES // 2 + 1)}, "content"),
    ({"role": "ghost", "content": "x"}, "role"),
    ({"role": "user", "content": "x", "loud": True}, "loud"),
    ({"role": "user", "content": "x", "message_id": "a b"}, "message_id"),
    ({"role": "user", "content": "x", "metadata": {"a": 1}}, 'metadata["a"]'),
    ({"role": "user", "content": "x", "metadata": {"a": "v" * 1025}}, "metadata"),
    ({"role": "user", "content": "x", "metadata": {str(n): "" for n in range(33)}}, "metadata"),
)


async def test_a_message_at_fault_is_refused_by_field(gateway: RunningGateway) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    for body, field in UNFIT:
        answer = await gateway.http.post(f"{SESSIONS}/{id_}/messages", json=body)
        assert answer.status_code == 400
        assert [each["field"] for each in answer.json()["violations"]] == [field]
    assert await contents(gateway.http, id_) == []


async def test_a_conversation_at_fault_is_not_begun(gateway: RunningGateway) -> None:
    for body in (
        {"time_to_live": 59},
        {"time_to_live": 30 * 86_400 + 1},
        {"time_to_live": "1"},
        {"ttl": 60},
    ):
        answer = await gateway.http.post(SESSIONS, json=body)
        assert (answer.status_code, answer.json()["reason"]) == (400, "FIELD_INVALID")
    assert (await gateway.http.get(SESSIONS)).json()["sessions"] == []


async def test_an_id_that_cannot_be_one_is_not_found(gateway: RunningGateway) -> None:
    for id_ in ("x", "..", "a" * 23, "%00" * 22, "é" * 22, "a%0A" + "a" * 21):
        answer = await gateway.http.get(f"{SESSIONS}/{id_}/messages")
        assert answer.status_code == 404


async def test_a_page_token_that_is_none_is_refused(gateway: RunningGateway) -> None:
    answer = await gateway.http.get(SESSIONS, params={"page_token": "+inf"})
    assert answer.json()["violations"][0]["field"] == "page_token"


async def test_only_what_was_not_read_before_is_read_from_redis(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = (await begun(gateway.http))["session_id"]
    asked: list[int] = []
    store = reading.ConversationStore
    whole = store.turns

    async def noted(self: reading.ConversationStore, id_: str, *, newest: int) -> Any:  # noqa: ANN401 - as the method has it
        asked.append(newest)
        return await whole(self, id_, newest=newest)

    monkeypatch.setattr(store, "turns", noted)
    for number in range(3):
        await said(gateway.http, id_, str(number))
    assert await contents(gateway.http, id_) == ["0", "1", "2"]
    assert await contents(gateway.http, id_) == ["0", "1", "2"]
    await said(gateway.http, id_, "3")
    assert await contents(gateway.http, id_) == ["0", "1", "2", "3"]
    assert asked == [3, 0, 1]
