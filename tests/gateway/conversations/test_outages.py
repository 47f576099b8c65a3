"""When the Redis of sessions is away or full: nothing is pretended to be kept."""

from pathlib import Path

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.conversations.scripts import Keys
from tests.support.eventually import eventually
from tests.support.gateways import running_gateway_plane

SESSIONS = "/api/v1/sessions"


async def test_without_redis_nothing_is_kept_and_what_was_read_is_shown_as_old(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    sessions = EmbeddedValkey(tmp_path / "sessions")
    sessions.start()
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, sessions_redis_url=sessions.url
    ) as gateway:
        # Given two conversations, of which one was read
        read, unread = [(await gateway.http.post(SESSIONS)).json() for _ in range(2)]
        path = f"{SESSIONS}/{read['session_id']}/messages"
        said = {"role": "user", "content": "hello", "message_id": "m1"}
        await gateway.http.post(path, json=said)
        fresh = (await gateway.http.get(path)).json()
        assert fresh["stale"] is False
        # When Redis is away
        sessions.stop()
        # Then what would have to be kept is refused, with when to try again
        for answer in (
            await gateway.http.post(SESSIONS),
            await gateway.http.post(path, json={"role": "user", "content": "lost?"}),
            await gateway.http.get(SESSIONS),
            await gateway.http.get(f"{SESSIONS}/{unread['session_id']}/messages"),
        ):
            assert answer.status_code == 503
            assert answer.json()["reason"] == "SESSIONS_UNAVAILABLE"
            assert int(answer.headers["retry-after"]) >= 1
        # And what was read is shown, to whoever may, and marked
        stale = (await gateway.http.get(path)).json()
        assert stale == {**fresh, "stale": True}
        async with gateway.client(
            await gateway.new_key(projects=frozenset({"elsewhere"}))
        ) as stranger:
            assert (await stranger.get(path)).status_code == 503
        # And tasks are not concerned
        assert await gateway.submit("ping")
        # And when it is back, so is all that was kept
        sessions.start()
        assert (await gateway.http.post(path, json=said)).json()["sequence"] == 1
        assert (await gateway.http.get(path)).json() == fresh
    sessions.stop()


async def test_no_redis_configured_is_a_redis_that_is_away(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    async with running_gateway_plane(valkey_server.url, cell, tmp_path, redis_url=None) as gateway:
        answer = await gateway.http.post(SESSIONS)
        assert answer.json()["reason"] == "SESSIONS_UNAVAILABLE"
        body = {"type": "NOTIFICATION", "room": "project:default"}
        answer = await gateway.http.post("/api/v1/rooms/messages", json=body)
        assert answer.json()["reason"] == "ROOMS_UNAVAILABLE"


async def test_the_space_of_the_ledger_is_left_to_the_ledger(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    """A server that evicts nothing is not filled by more than half."""
    small = EmbeddedValkey(tmp_path / "small", max_memory_bytes=64 * 2**20)
    small.start()
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, sessions_redis_url=small.url
    ) as gateway:
        session = (await gateway.http.post(SESSIONS)).json()
        path = f"{SESSIONS}/{session['session_id']}/messages"
        sessions = gateway.gateway.beside.sessions
        # Given a server that is more than half full
        for number in range(36):
            await sessions.command("SET", f"ballast-{number}", b"x" * 2**20)

        async def is_full() -> bool:
            return (await gateway.http.post(SESSIONS)).status_code == 503

        await eventually(is_full)
        # Then nothing is added, and what is there is read
        answer = await gateway.http.post(path, json={"role": "user", "content": "x"})
        assert (answer.status_code, answer.json()["reason"]) == (503, "SESSIONS_FULL")
        assert answer.headers["retry-after"] == "30"
        assert (await gateway.http.get(path)).status_code == 200
        # And a server that evicts looks after itself
        await sessions.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

        async def is_taken() -> bool:
            return (await gateway.http.post(SESSIONS)).status_code == 201

        await eventually(is_taken)
    small.stop()


async def test_a_project_has_so_many_conversations_and_no_more(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, conversations_per_project=2
    ) as gateway:
        first, _ = [(await gateway.http.post(SESSIONS)).json() for _ in range(2)]
        refused = await gateway.http.post(SESSIONS)
        assert (refused.status_code, refused.json()["reason"]) == (429, "SESSIONS_EXHAUSTED")
        await gateway.http.delete(f"{SESSIONS}/{first['session_id']}")
        assert (await gateway.http.post(SESSIONS)).status_code == 201


async def test_forgotten_conversations_make_room(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, conversations_per_project=1
    ) as gateway:
        session = (await gateway.http.post(SESSIONS)).json()
        id_, keys, sessions = session["session_id"], Keys(cell), gateway.gateway.beside.sessions
        # Given one whose time has come
        await sessions.command("DEL", keys.state(id_))
        await sessions.command("ZADD", keys.ending("default"), 1, id_)
        assert (await gateway.http.get(SESSIONS)).json()["sessions"] == []
        assert (await gateway.http.post(SESSIONS)).status_code == 201
