"""What one connection may take: messages, memory and patience."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.rooms.caretaker import Caretaker
from callsheet.gateway.rooms.limits import MESSAGE_BYTES, CloseCode, RoomLimits
from callsheet.gateway.rooms.outbox import Closed, Outbox
from callsheet.gateway.rooms.peers import Peers
from tests.support.controls import until
from tests.support.eventually import eventually
from tests.support.gateways import PATIENCE, RunningGateway, running_gateway_plane
from tests.support.room_clients import narrow, present, some_peer

SOON = timedelta(seconds=PATIENCE)


@asynccontextmanager
async def limited(
    server: EmbeddedValkey, cell: str, folder: Path, limits: RoomLimits
) -> AsyncGenerator[RunningGateway]:
    """Yield a gateway with these limits, that hears what is published."""
    async with running_gateway_plane(server.url, cell, folder, room_limits=limits) as gateway:
        await gateway.gateway.beside.rooms.rooms.shared.linked(timeout=SOON)
        yield gateway


async def test_a_ping_is_answered_with_its_id(gateway: RunningGateway) -> None:
    async with present(gateway.host, gateway.key) as client:
        assert await client.ask("PING") == {"type": "PONG", "id": "ask-1"}


async def test_what_is_no_envelope_is_refused_and_the_connection_goes_on(
    gateway: RunningGateway,
) -> None:
    async with present(gateway.host, gateway.key) as client:
        for text, reason in (
            ("{", "MESSAGE_MALFORMED"),
            ('{"type": "SHOUT", "id": "7"}', "FIELD_INVALID"),
            ('{"type": "PING", "loud": true, "id": "7"}', "FIELD_INVALID"),
        ):
            await client.socket.send(text)
            answer = await client.hear()
            assert (answer["type"], answer["data"]["reason"]) == ("ERROR", reason)
            assert answer.get("id", "") == ("7" if "7" in text else "")
        assert (await client.ask("PING"))["type"] == "PONG"


async def test_a_binary_message_ends_the_connection(gateway: RunningGateway) -> None:
    async with present(gateway.host, gateway.key) as client:
        await client.socket.send(b"{}")
        assert await client.ended() == CloseCode.NOT_TEXT


async def test_a_message_too_large_ends_the_connection(gateway: RunningGateway) -> None:
    async with present(gateway.host, gateway.key) as client:
        await client.socket.send("x" * MESSAGE_BYTES)
        assert (await client.hear())["data"]["reason"] == "MESSAGE_MALFORMED"
        await client.socket.send("x" * (MESSAGE_BYTES + 1))
        assert await client.ended() == 1009


async def test_who_says_too_much_is_held_back_and_then_sent_away(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(messages_per_second=1, refusals=5)
    async with (
        limited(valkey_server, cell, tmp_path, limits) as gateway,
        present(gateway.host, gateway.key) as client,
    ):
        for _ in range(20):
            await client.socket.send('{"type": "PING", "id": "x"}')
        told = await client.heard("ERROR")
        assert (told["data"]["reason"], told["id"]) == ("RATE_LIMITED", "x")
        assert told["data"]["retry_after"] == 1
        assert await client.ended() == CloseCode.RATE_LIMITED


async def test_a_key_publishes_so_much_over_all_its_connections(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(published_per_second=1)
    async with (
        limited(valkey_server, cell, tmp_path, limits) as gateway,
        present(gateway.host, gateway.key) as a,
        present(gateway.host, gateway.key) as b,
    ):
        assert (await a.ask("NOTIFICATION", room="workflow:w"))["type"] == "ACCEPTED"
        assert (await b.ask("NOTIFICATION", room="workflow:w"))["type"] == "ACCEPTED"
        told = await a.refused("NOTIFICATION", room="workflow:w")
        assert told["reason"] == "RATE_LIMITED"


async def test_a_reader_that_is_too_slow_is_told_so_and_the_others_go_on(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(
        waiting=16, messages_per_second=10_000, published_per_second=10_000, send=SOON
    )
    async with (
        limited(valkey_server, cell, tmp_path, limits) as gateway,
        present(gateway.host, gateway.key) as slow,
        present(gateway.host, gateway.key) as quick,
    ):
        await slow.join("workflow:w")
        peers = gateway.gateway.beside.rooms.peers
        (stuck,) = [each for each in peers if each.rooms]
        # Given a reader that takes nothing off its socket
        narrow(gateway)
        slow.socket.transport.pause_reading()
        data = {"text": "x" * 15_000}
        while stuck.outbox.end is None:
            assert (await quick.ask("NOTIFICATION", room="workflow:w", data=data)) is not None
        # When it reads again, then it finds out why it is told no more
        slow.socket.transport.resume_reading()
        assert await slow.ended() == CloseCode.SLOW_READER
        assert (await quick.ask("PING"))["type"] == "PONG"
        await until(lambda: len(peers) == 1)


async def test_a_reader_that_takes_nothing_at_all_is_cut_off(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(
        waiting=16,
        messages_per_second=10_000,
        published_per_second=10_000,
        send=timedelta(milliseconds=50),
    )
    async with (
        limited(valkey_server, cell, tmp_path, limits) as gateway,
        present(gateway.host, gateway.key) as stuck,
        present(gateway.host, gateway.key) as quick,
    ):
        await stuck.join("workflow:w")
        peers = gateway.gateway.beside.rooms.peers
        narrow(gateway)
        stuck.socket.transport.pause_reading()
        data = {"text": "x" * 15_000}
        while len(peers) == 2:
            await quick.ask("NOTIFICATION", room="workflow:w", data=data)
        stuck.socket.transport.abort()


async def test_a_client_that_vanishes_is_forgotten(gateway: RunningGateway) -> None:
    beside = gateway.gateway.beside.rooms
    task_id = await gateway.plane.client.submit()
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        client.socket.transport.abort()
        await until(lambda: len(beside.peers) == 0)
        await until(lambda: beside.rooms.watches == 0)


async def test_the_quiet_are_asked_for_a_sign_of_life_and_the_silent_are_sent_away() -> None:
    now = 0.0
    limits = RoomLimits(heartbeat=timedelta(seconds=10))
    peers = Peers(limits)
    caretaker = Caretaker(None, peers, None, limits, clock=lambda: now)  # pyright: ignore[reportArgumentType]  # it looks at nothing but peers here
    outbox = Outbox(envelopes=8, characters=1000)
    with peers.present(some_peer(outbox)):
        now = 9.0
        caretaker.look()
        assert len(outbox) == 0
        now = 10.0
        caretaker.look()
        caretaker.look()
        assert await outbox.taken() == ['{"type":"PING"}']
        now = 20.0
        caretaker.look()
        assert len(outbox) == 1
        now = 30.5
        caretaker.look()
        await outbox.taken()
        with pytest.raises(Closed) as closed:
            await outbox.taken()
        assert closed.value.code is CloseCode.SILENT


async def test_a_client_that_says_nothing_is_sent_away(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    # Three of them is how long a busy machine may take over an answer.
    limits = RoomLimits(heartbeat=timedelta(milliseconds=300))
    async with limited(valkey_server, cell, tmp_path, limits) as gateway:
        async with present(gateway.host, gateway.key) as client:
            assert await client.ended() == CloseCode.SILENT
        async with present(gateway.host, gateway.key) as client:
            for _ in range(5):
                await client.heard("PING")
                await client.socket.send('{"type": "PONG"}')


async def test_a_project_that_the_key_has_lost_is_left(gateway: RunningGateway) -> None:
    rooms = gateway.gateway.beside.rooms
    await rooms.rooms.shared.linked(timeout=SOON)
    key = await gateway.new_key(projects=frozenset({"default", "other"}))
    async with present(gateway.host, key) as client:
        await client.join("workflow:w", project="other")
        await client.join("workflow:v", project="default")
        (found,) = rooms.peers
        await _rewritten(gateway, key, projects=["default"])

        async def is_known() -> bool:
            await rooms.caretaker.check()
            return found.projects == frozenset({"default"})

        await eventually(is_known)
        left = await client.heard("LEFT")
        assert (left["project"], left["data"]["reason"]) == ("other", "PROJECT_NOT_FOUND")
        assert {name.project for name in found.rooms} == {"default"}


async def _rewritten(gateway: RunningGateway, key: str, *, projects: list[str]) -> None:
    keys = gateway.plane.cell.keys.api_keys
    found = await gateway.plane.redis.hget(keys, key[3:11])
    assert found is not None
    record = json.loads(found)
    record["projects"] = projects
    await gateway.plane.redis.hset(keys, key[3:11], json.dumps(record))
