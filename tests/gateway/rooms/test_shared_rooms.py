"""Rooms of projects, workflows and networks: what clients tell one another, by way of Redis."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.rooms.limits import RoomLimits
from tests.support.eventually import eventually
from tests.support.gateways import PATIENCE, RunningGateway, gateway_before, running_gateway_plane
from tests.support.room_clients import Envelope, RoomClient, present, room_client

SOON = timedelta(seconds=PATIENCE)


async def linked(gateway: RunningGateway) -> None:
    await gateway.gateway.beside.rooms.rooms.shared.linked(timeout=SOON)


@pytest.fixture
async def ready(gateway: RunningGateway) -> RunningGateway:
    """A gateway that hears what is published."""
    await linked(gateway)
    return gateway


@asynccontextmanager
async def two_in(
    gateway: RunningGateway, room: str
) -> AsyncGenerator[tuple[RoomClient, RoomClient]]:
    async with present(gateway.host, gateway.key) as a, present(gateway.host, gateway.key) as b:
        await a.join(room)
        await b.join(room)
        yield a, b


async def published(sender: RoomClient, number: int) -> Envelope:
    """Tell room workflow:w1 so many things; return the last answer."""
    answer: Envelope = {}
    for step in range(number):
        answer = await sender.ask("WORKFLOW_UPDATE", room="workflow:w1", data={"step": step})
    return answer


async def test_what_one_publishes_all_members_hear_in_order(ready: RunningGateway) -> None:
    async with two_in(ready, "workflow:w1") as (a, b):
        for step in range(3):
            data = {"status": "running", "progress": step}
            answer = await a.ask("WORKFLOW_UPDATE", room="workflow:w1", data=data)
            assert (answer["type"], answer["sequence"]) == ("ACCEPTED", step + 1)
        heard = [await b.heard("WORKFLOW_UPDATE") for _ in range(3)]
    assert [each["sequence"] for each in heard] == [1, 2, 3]
    assert heard[0]["data"] == {"status": "running", "progress": 0, "workflow_id": "w1"}
    assert heard[0]["project"] == "default"
    assert heard[0]["room"] == "workflow:w1"
    assert heard[0]["time"].endswith("Z")
    assert heard[0]["sender"]


async def test_rest_publishes_too(ready: RunningGateway) -> None:
    async with two_in(ready, "network:n1") as (a, b):
        body = {"type": "NETWORK_UPDATE", "room": "network:n1", "data": {"action": "created"}}
        answer = await ready.http.post("/api/v1/rooms/messages", json=body)
        assert answer.status_code == 202
        assert answer.json()["sequence"] == 1
        for client in (a, b):
            told = await client.heard("NETWORK_UPDATE")
            assert told["data"] == {"action": "created", "network_id": "n1"}
            assert told["epoch"] == answer.json()["epoch"]
            assert "sender" not in told


#: Envelopes that cannot be published, and what REST says of them.
UNFIT: Final[tuple[tuple[dict[str, object], int, str], ...]] = (
    ({"type": "TASK_UPDATE", "room": "workflow:w"}, 400, "FIELD_INVALID"),
    ({"type": "NOTIFICATION"}, 400, "FIELD_INVALID"),
    ({"type": "NOTIFICATION", "room": "workflow:w", "to": "x"}, 400, "FIELD_INVALID"),
    ({"type": "NOTIFICATION", "room": "workflow:w", "loud": True}, 400, "FIELD_INVALID"),
    ({"type": "NETWORK_UPDATE", "room": "workflow:w"}, 400, "FIELD_INVALID"),
    ({"type": "NOTIFICATION", "room": "project:p", "project": "q"}, 400, "FIELD_INVALID"),
    ({"type": "NOTIFICATION", "room": "project:elsewhere"}, 404, "PROJECT_NOT_FOUND"),
    (
        {"type": "NOTIFICATION", "room": "workflow:w", "project": "elsewhere"},
        404,
        "PROJECT_NOT_FOUND",
    ),
    (
        {"type": "NOTIFICATION", "room": "task:01234567-89ab-4def-8123-456789abcdef"},
        400,
        "ROOM_READ_ONLY",
    ),
    (
        {"type": "NOTIFICATION", "room": "workflow:w", "data": {"text": "x" * 20_000}},
        413,
        "MESSAGE_TOO_LARGE",
    ),
)


async def test_what_cannot_be_published_is_refused_alike_by_both_ways(
    ready: RunningGateway,
) -> None:
    async with present(ready.host, ready.key) as client:
        for body, status, reason in UNFIT:
            answer = await ready.http.post("/api/v1/rooms/messages", json=body)
            assert (answer.status_code, answer.json()["reason"]) == (status, reason)
            fields = {name: value for name, value in body.items() if name != "type"}
            told = await client.refused(str(body["type"]), **fields)
            assert told["reason"] == reason


async def test_what_is_nested_deep_is_refused(ready: RunningGateway) -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    async with present(ready.host, ready.key) as client:
        told = await client.refused("NOTIFICATION", room="workflow:w", data={"a": deep})
    assert told["violations"][0]["field"] == "data"


async def test_a_key_without_the_role_submit_publishes_nothing(ready: RunningGateway) -> None:
    key = await ready.new_key(roles=frozenset({"read"}))
    async with present(ready.host, key) as client:
        told = await client.refused("NOTIFICATION", room="workflow:w")
    assert told["reason"] == "ROLE_MISSING"


async def test_the_same_workflow_of_two_projects_is_two_rooms(ready: RunningGateway) -> None:
    both = await ready.new_key(projects=frozenset({"default", "other"}))
    async with present(ready.host, ready.key) as ours, present(ready.host, both) as theirs:
        await ours.join("workflow:w1")
        nameless = await theirs.refused("JOIN", room="workflow:w1")
        assert nameless["violations"][0]["field"] == "project"
        await theirs.join("workflow:w1", project="other")
        await theirs.ask("WORKFLOW_UPDATE", room="workflow:w1", project="other", data={"n": 1})
        await theirs.ask("WORKFLOW_UPDATE", room="workflow:w1", project="default", data={"n": 2})
        assert (await ours.heard("WORKFLOW_UPDATE"))["data"]["n"] == 2


async def test_a_foreign_project_is_not_found(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as client:
        for room, project in (("project:other", ""), ("workflow:w1", "other")):
            told = await client.refused("JOIN", room=room, project=project)
            assert told["reason"] == "PROJECT_NOT_FOUND"


async def test_all_of_a_project_hear_what_is_told_in_its_room(ready: RunningGateway) -> None:
    """Those in no room too; those of another project not."""
    stranger = await ready.new_key(projects=frozenset({"other"}))
    async with (
        present(ready.host, ready.key) as member,
        present(ready.host, ready.key) as bystander,
        present(ready.host, stranger) as outsider,
    ):
        await member.join("project:default")
        await bystander.ask("NOTIFICATION", room="project:default", data={"text": "hello"})
        assert (await member.heard("NOTIFICATION"))["data"] == {"text": "hello"}
        await bystander.say("NOTIFICATION", room="project:default", data={"text": "again"})
        assert (await bystander.heard("NOTIFICATION"))["data"]["text"] in {"hello", "again"}
        await outsider.say("NOTIFICATION", room="project:other", data={"text": "ours"})
        assert (await outsider.heard("NOTIFICATION"))["data"] == {"text": "ours"}


async def test_one_connection_is_told_alone(ready: RunningGateway) -> None:
    stranger = await ready.new_key(projects=frozenset({"other"}))
    async with (
        present(ready.host, ready.key) as sender,
        present(ready.host, stranger) as outsider,
        present_with_id(ready) as (receiver, receiver_id),
    ):
        # From another project nothing gets through
        await outsider.ask("NOTIFICATION", to=receiver_id, data={"text": "spam"})
        await sender.ask("NOTIFICATION", to=receiver_id, data={"text": "psst"})
        told = await receiver.heard("NOTIFICATION")
    assert told["data"] == {"text": "psst"}
    assert "room" not in told
    assert "sequence" not in told


async def test_a_signal_takes_no_sequence(ready: RunningGateway) -> None:
    async with two_in(ready, "workflow:w1") as (a, b):
        await a.ask("COLLABORATION_UPDATE", room="workflow:w1", signal=True, data={"x": 1})
        await a.ask("COLLABORATION_UPDATE", room="workflow:w1", data={"x": 2})
        signal, fact = await b.hear(), await b.hear()
    assert (signal["signal"], "sequence" in signal) == (True, False)
    assert (fact["sequence"], fact["data"]["x"]) == (1, 2)


async def test_who_comes_back_is_told_what_it_missed(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as sender:
        told = await published(sender, 5)
        async with present(ready.host, ready.key) as back:
            joined = await back.join("workflow:w1", sequence=2, epoch=told["epoch"])
            assert (joined["sequence"], joined["data"]["missed"]) == (2, False)
            heard = [await back.heard("WORKFLOW_UPDATE") for _ in range(3)]
            assert [each["sequence"] for each in heard] == [3, 4, 5]
        async with present(ready.host, ready.key) as new:
            joined = await new.join("workflow:w1")
            assert (joined["sequence"], joined["epoch"]) == (5, told["epoch"])


async def test_who_was_away_for_too_long_is_told_so(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(kept=3)
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, room_limits=limits
    ) as gateway:
        await linked(gateway)
        async with present(gateway.host, gateway.key) as client:
            told = await published(client, 6)
            late = await client.join("workflow:w1", sequence=1, epoch=told["epoch"])
            assert (late["sequence"], late["data"]["missed"]) == (3, True)
            heard = [await client.heard("WORKFLOW_UPDATE") for _ in range(3)]
            assert [each["sequence"] for each in heard] == [4, 5, 6]
            stranger = await client.join("workflow:w1", sequence=6, epoch="elsewhere")
            assert stranger["data"]["missed"] is True


async def test_a_project_has_so_many_rooms_and_no_more(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(rooms_per_project=2)
    async with (
        running_gateway_plane(valkey_server.url, cell, tmp_path, room_limits=limits) as gateway,
        present(gateway.host, gateway.key) as client,
    ):
        for room in ("workflow:a", "workflow:b", "workflow:a"):
            assert (await client.ask("NOTIFICATION", room=room))["type"] == "ACCEPTED"
        told = await client.refused("NOTIFICATION", room="workflow:c")
        assert told["reason"] == "ROOMS_EXHAUSTED"


async def test_gateways_tell_one_another(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path, ready: RunningGateway
) -> None:
    async with gateway_before(ready.plane, valkey_server.url, cell, tmp_path / "b") as second:
        await linked(second)
        async with (
            present(ready.host, ready.key) as here,
            present_with_id(second) as (there, there_id),
        ):
            first = await here.join("workflow:w1")
            assert first == {**(await there.join("workflow:w1")), "id": first["id"]}
            await here.ask("WORKFLOW_UPDATE", room="workflow:w1", data={"n": 1})
            await there.ask("WORKFLOW_UPDATE", room="workflow:w1", data={"n": 2})
            await here.ask("NOTIFICATION", to=there_id, data={"text": "psst"})
            assert (await there.heard("NOTIFICATION"))["data"] == {"text": "psst"}
        # A client that loses its gateway goes on at the other one
        async with present(second.host, second.key) as moved:
            await moved.join("workflow:w1", sequence=0)
            heard = [await moved.heard("WORKFLOW_UPDATE") for _ in range(2)]
            assert [(each["sequence"], each["data"]["n"]) for each in heard] == [(1, 1), (2, 2)]


async def test_without_redis_rooms_of_tasks_go_on_and_the_others_say_so(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    sessions = EmbeddedValkey(tmp_path / "sessions")
    sessions.start()
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, sessions_redis_url=sessions.url
    ) as gateway:
        await linked(gateway)
        shared = gateway.gateway.beside.rooms.rooms.shared
        task_id = await gateway.plane.client.submit()
        async with present(gateway.host, gateway.key) as client:
            # Given a room in which something was told
            await client.join("workflow:w1")
            await client.ask("NOTIFICATION", room="workflow:w1", data={"n": 1})
            # When Redis goes away
            sessions.stop()
            refused = await client.refused("NOTIFICATION", room="workflow:w1")
            assert refused["reason"] == "ROOMS_UNAVAILABLE"
            assert refused["retry_after"] >= 1

            async def is_lost() -> bool:
                return not shared.is_linked

            await eventually(is_lost)
            assert (await client.refused("JOIN", room="network:n1"))[
                "reason"
            ] == "ROOMS_UNAVAILABLE"
            # Then rooms of tasks are told
            await client.join(f"task:{task_id}")
            assert (await client.heard("TASK_UPDATE"))["sequence"] == 1
            # And when it is back, the room goes on where it was
            sessions.start()
            await asyncio.wait_for(linked(gateway), PATIENCE)
            told = await client.ask("NOTIFICATION", room="workflow:w1", data={"n": 2})
            assert told["sequence"] == 2
            assert (await client.heard("NOTIFICATION"))["sequence"] == 2
    sessions.stop()


async def test_what_was_lost_with_redis_is_told(cell: str, ready: RunningGateway) -> None:
    """The room counts anew, in another epoch."""
    async with two_in(ready, "workflow:w1") as (a, b):
        before = await a.ask("NOTIFICATION", room="workflow:w1")
        await b.heard("NOTIFICATION")
        sessions = ready.gateway.beside.sessions
        for ending in ("state", "kept"):
            key = f"callsheet:{{{cell}}}:rooms:default:workflow:w1:{ending}"
            assert await sessions.command("DEL", key) == 1
        after = await a.ask("NOTIFICATION", room="workflow:w1")
        assert after["sequence"] == 1
        assert after["epoch"] != before["epoch"]
        told = await b.heard("NOTIFICATION")
        assert (told["sequence"], told["epoch"]) == (1, after["epoch"])
        back = await b.join("workflow:w1", sequence=1, epoch=before["epoch"])
        assert back["data"]["missed"] is True


@asynccontextmanager
async def present_with_id(gateway: RunningGateway) -> AsyncGenerator[tuple[RoomClient, str]]:
    async with room_client(gateway.host, gateway.key) as client:
        yield client, (await client.hear())["data"]["connection_id"]
