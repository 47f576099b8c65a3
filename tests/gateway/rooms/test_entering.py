"""Who is let in, how, and who is not."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from websockets.exceptions import InvalidStatus

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.limits import CloseCode, RoomLimits
from callsheet.gateway.rooms.peers import Peers
from callsheet.ledger.keys import revoke_key
from tests.support.eventually import eventually
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.room_clients import present, room_client

_INSTANT: Final = timedelta(milliseconds=20)


async def test_a_key_in_the_header_opens_the_door(gateway: RunningGateway) -> None:
    async with room_client(gateway.host, gateway.key) as client:
        welcome = await client.hear()
    assert welcome["type"] == "WELCOME"
    assert welcome["data"]["projects"] == ["default"]
    assert welcome["data"]["roles"] == ["operate", "read", "submit"]
    assert welcome["data"]["connection_id"]


async def test_a_bearer_token_does_too(gateway: RunningGateway) -> None:
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with room_client(gateway.host, headers=headers) as client:
        assert (await client.hear())["type"] == "WELCOME"


async def test_a_key_in_the_first_message_does_too(gateway: RunningGateway) -> None:
    async with room_client(gateway.host) as client:
        await client.say("AUTHENTICATE", key=gateway.key)
        assert (await client.hear())["type"] == "WELCOME"
        assert (await client.ask("PING"))["type"] == "PONG"
        again = await client.refused("AUTHENTICATE", key=gateway.key)
        assert again["reason"] == "ALREADY_AUTHENTICATED"


async def test_a_wrong_key_is_refused_before_there_is_a_connection(gateway: RunningGateway) -> None:
    wrong = "cs_00000000_" + "x" * 43
    with pytest.raises(InvalidStatus) as caught:
        async with room_client(gateway.host, wrong):
            pass
    assert caught.value.response.status_code == 401
    problem = json.loads(caught.value.response.body)
    assert problem["reason"] == "KEY_INVALID"
    assert caught.value.response.headers["content-type"].startswith("application/problem+json")


async def test_a_first_message_without_a_good_key_ends_the_connection(
    gateway: RunningGateway,
) -> None:
    for first in (
        '{"type": "AUTHENTICATE", "key": "cs_00000000_' + "x" * 43 + '"}',
        '{"type": "AUTHENTICATE", "key": "not a key\\n"}',
        '{"type": "AUTHENTICATE", "key": "ключ"}',
        '{"type": "JOIN", "room": "project:default"}',
        '{"type": "AUTHENTICATE"}',
        "{",
        b"{}",
    ):
        async with room_client(gateway.host) as client:
            await client.socket.send(first)
            answer = await client.hear()
            assert answer["type"] == "ERROR"
            assert answer["data"]["reason"] in {"KEY_INVALID", "KEY_MISSING"}
            assert await client.ended() == CloseCode.UNAUTHENTICATED


async def test_who_says_nothing_is_sent_away(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(sign_in=_INSTANT)
    async with (
        running_gateway_plane(valkey_server.url, cell, tmp_path, room_limits=limits) as gateway,
        room_client(gateway.host) as client,
    ):
        assert await client.ended() == CloseCode.UNAUTHENTICATED


async def test_a_cookie_counts_on_the_gateways_own_pages_alone(gateway: RunningGateway) -> None:
    signed_in = await gateway.http.post("/api/v1/session", json={"api_key": gateway.key})
    assert signed_in.status_code == 201
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    own = {"cookie": cookie, "origin": gateway.url}
    async with room_client(gateway.host, headers=own) as client:
        assert (await client.hear())["type"] == "WELCOME"
    # From another origin the cookie is as good as none: the key has to be said.
    foreign = {"cookie": cookie, "origin": "http://evil.example"}
    async with room_client(gateway.host, headers=foreign) as client:
        await client.say("JOIN", room="project:default")
        assert await client.ended() == CloseCode.UNAUTHENTICATED


async def test_a_revoked_key_ends_its_connections(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(key_check=_INSTANT)
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, room_limits=limits
    ) as gateway:
        key = await gateway.new_key()
        async with present(gateway.host, key) as gone, present(gateway.host, gateway.key) as stays:
            await revoke_key(gateway.plane.redis, cell=cell, key_id=key[3:11])
            assert await gone.ended() == CloseCode.UNAUTHENTICATED
            assert (await stays.ask("PING"))["type"] == "PONG"


async def test_a_connection_too_many_is_turned_away(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(connections=3, connections_per_key=2)
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, room_limits=limits
    ) as gateway:
        async with present(gateway.host, gateway.key), present(gateway.host, gateway.key):
            assert await _status(gateway, gateway.key) == 429
            async with present(gateway.host, await gateway.new_key()):
                assert await _status(gateway, await gateway.new_key()) == 503
        peers = gateway.gateway.beside.rooms.peers

        async def nobody() -> bool:
            return peers.connections == 0

        await eventually(nobody)
        async with present(gateway.host, gateway.key):
            assert len(peers) == 1


async def test_wrong_keys_do_not_lock_a_recognised_one_out_of_their_address(
    gateway: RunningGateway,
) -> None:
    stranger = await gateway.new_key()
    async with present(gateway.host, gateway.key):
        pass
    # Given an address that has guessed until it has to wait
    for number in range(100):
        with pytest.raises(InvalidStatus) as caught:
            async with room_client(gateway.host, f"cs_{number:08}_" + "x" * 43):
                pass
        if caught.value.response.status_code == 429:
            break
    # Then a key that nobody knows yet waits with it, and one that was recognised does not
    assert await _status(gateway, stranger) == 429
    async with present(gateway.host, gateway.key), room_client(gateway.host) as client:
        await client.say("AUTHENTICATE", key=gateway.key)
        assert (await client.hear())["type"] == "WELCOME"


async def test_so_many_of_one_address_may_be_there_without_a_key(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(introducing_per_address=2, sign_in=timedelta(seconds=30))
    async with (
        running_gateway_plane(valkey_server.url, cell, tmp_path, room_limits=limits) as gateway,
        room_client(gateway.host) as first,
        room_client(gateway.host),
    ):
        assert await _status(gateway, "") == 429
        # Who has a key is let in, and who said it makes room for another
        async with present(gateway.host, gateway.key):
            await first.say("AUTHENTICATE", key=gateway.key)
            assert (await first.hear())["type"] == "WELCOME"
        async with room_client(gateway.host) as third:
            await third.say("AUTHENTICATE", key=gateway.key)
            assert (await third.hear())["type"] == "WELCOME"


def test_addresses_do_not_count_for_each_other() -> None:
    peers = Peers(RoomLimits(introducing_per_address=1))
    with (
        peers.introducing("a"),
        peers.introducing("b"),
        pytest.raises(Refused),
        peers.introducing("a"),
    ):
        pass
    with peers.introducing("a"):
        pass


async def test_a_plain_request_is_no_websocket(gateway: RunningGateway) -> None:
    answer = await gateway.http.get("/ws")
    assert answer.status_code in {404, 426}


async def test_no_connection_is_left_when_the_gateway_ends(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    async with running_gateway_plane(valkey_server.url, cell, tmp_path) as gateway:
        client = await room_client(gateway.host, gateway.key).__aenter__()
        await client.hear()
        ended = asyncio.ensure_future(client.ended())
    assert await ended == CloseCode.GOING_AWAY


async def _status(gateway: RunningGateway, key: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with room_client(gateway.host, key):
            pass
    assert "retry-after" in caught.value.response.headers
    return caught.value.response.status_code
