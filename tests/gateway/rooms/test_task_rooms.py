"""Rooms of tasks: every fact once and in order for each member, over one watch for them all."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.ledger.keys import revoke_key
from callsheet.ledger.model import Progress
from tests.support.controls import until
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.room_clients import Envelope, RoomClient, present
from tests.support.room_crowd import Onlooker
from tests.support.work import started, succeeded, tossed

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NO_TASK = "task:01234567-89ab-4def-8123-456789abcdef"


async def facts(client: RoomClient) -> list[Envelope]:
    """Return the facts of a room until it is left."""
    seen: list[Envelope] = []
    while (envelope := await client.hear())["type"] != "LEFT":
        if "sequence" in envelope:
            seen.append(envelope)
    assert envelope["data"]["reason"] == "TASK_ENDED"
    return seen


async def test_a_member_is_told_every_fact_and_then_that_the_task_has_ended(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.plane.client.submit()
    async with present(gateway.host, gateway.key) as client:
        joined = await client.join(f"task:{task_id}")
        assert (joined["sequence"], joined["project"]) == (0, "default")
        await succeeded(gateway.plane.cell, task_id)
        seen = await facts(client)
    assert [each["sequence"] for each in seen] == [1, 2, 3]
    assert [each["data"]["status"] for each in seen] == ["queued", "processing", "completed"]
    assert [each["data"]["event"] for each in seen] == [
        "task_submitted",
        "attempt_started",
        "task_succeeded",
    ]
    last = seen[-1]
    assert last["type"] == "TASK_UPDATE"
    assert last["room"] == f"task:{task_id}"
    assert last["data"]["final"] is True
    assert last["data"]["task_succeeded"]["output"]["echo"] == "done"
    assert {each["epoch"] for each in seen} == {joined["epoch"]}
    await until(lambda: gateway.gateway.beside.rooms.rooms.watches == 0)


async def test_the_room_of_a_task_that_has_ended_tells_all_of_it(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    await succeeded(gateway.plane.cell, task_id)
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        assert [each["sequence"] for each in await facts(client)] == [1, 2, 3]


async def test_a_member_goes_on_behind_the_sequence_it_names(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    room = f"task:{task_id}"
    async with (
        present(gateway.host, gateway.key) as there,
        present(gateway.host, gateway.key) as back,
    ):
        joined = await there.join(room)
        await tossed(gateway.plane.cell, task_id, times=2)  # facts 2 to 5
        while (await there.hear()).get("sequence") != 5:
            pass
        for first in (0, 2, 4):
            await back.join(room, sequence=first, epoch=joined["epoch"])
            for sequence in range(first + 1, 6):
                assert (await back.hear())["sequence"] == sequence
        assert gateway.gateway.beside.rooms.rooms.watches == 1
        await succeeded(gateway.plane.cell, task_id)
        assert [each["sequence"] for each in await facts(back)] == [6, 7]


async def test_joining_again_begins_anew(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    async with present(gateway.host, gateway.key) as client:
        for _ in range(2):
            await client.join(f"task:{task_id}")
            assert (await client.hear())["sequence"] == 1


async def test_progress_is_told_without_a_sequence(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        attempts, task = await started(gateway.plane.cell, task_id)

        async def report() -> None:
            step = 0
            while True:
                step += 1
                progress = Progress(step, 10_000, "drawing", NOW)
                await attempts.announce(task, attempt=1, progress=progress)
                await asyncio.sleep(0.01)  # a worker reports again and again

        reporting = asyncio.ensure_future(report())
        while "signal" not in (told := await client.hear()):
            pass
        reporting.cancel()
    assert "sequence" not in told
    assert told["data"]["status"] == "processing"
    assert told["data"]["sequence"] == 2
    assert told["data"]["progress"]["message"] == "drawing"


async def test_a_place_that_is_not_in_the_log_is_refused(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    room = f"task:{task_id}"
    async with present(gateway.host, gateway.key) as client:
        ahead = await client.refused("JOIN", room=room, sequence=7)
        elsewhere = await client.refused("JOIN", room=room, sequence=1, epoch="another")
    assert ahead["reason"] == "SEQUENCE_AHEAD"
    assert elsewhere["reason"] == "EPOCH_CHANGED"
    assert gateway.gateway.beside.rooms.rooms.watches == 0


async def test_a_changed_epoch_ends_the_room_loudly(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        await client.heard("TASK_UPDATE")
        await gateway.plane.cell.log.change_epoch("restored")
        left = await client.heard("LEFT")
        assert left["data"]["reason"] == "EPOCH_CHANGED"
        assert (await client.join(f"task:{task_id}"))["epoch"] == "restored"


async def test_a_foreign_task_is_not_found(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    stranger = await gateway.new_key(projects=frozenset({"elsewhere"}))
    async with present(gateway.host, stranger) as client:
        foreign = await client.refused("JOIN", room=f"task:{task_id}")
        nobodys = await client.refused("JOIN", room=NO_TASK)
    assert foreign["reason"] == nobodys["reason"] == "TASK_NOT_FOUND"


async def test_a_task_is_not_found_in_another_project_of_the_same_key(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.plane.client.submit()
    key = await gateway.new_key(projects=frozenset({"default", "elsewhere"}))
    async with present(gateway.host, key) as client:
        told = await client.refused("JOIN", room=f"task:{task_id}", project="elsewhere")
        assert told["reason"] == "TASK_NOT_FOUND"
        await client.join(f"task:{task_id}", project="default")


async def test_a_key_without_the_role_read_joins_nothing(gateway: RunningGateway) -> None:
    task_id = await gateway.plane.client.submit()
    key = await gateway.new_key(roles=frozenset({"submit"}))
    async with present(gateway.host, key) as client:
        for room in (f"task:{task_id}", "project:default", "workflow:w"):
            assert (await client.refused("JOIN", room=room))["reason"] == "ROLE_MISSING"


async def test_the_room_goes_on_when_the_key_that_watches_is_revoked(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    """The watch is opened anew with the key of another member, and misses nothing."""
    async with running_gateway_plane(valkey_server.url, cell, tmp_path) as gateway:
        task_id = await gateway.plane.client.submit()
        key = await gateway.new_key()
        async with (
            present(gateway.host, key) as first,
            present(gateway.host, gateway.key) as second,
        ):
            await first.join(f"task:{task_id}")
            await second.join(f"task:{task_id}")
            await revoke_key(gateway.plane.redis, cell=cell, key_id=key[3:11])
            left = await first.heard("LEFT")
            assert left["data"]["reason"] == "KEY_INVALID"
            await succeeded(gateway.plane.cell, task_id)
            assert [each["sequence"] for each in await facts(second)] == [1, 2, 3]


async def test_who_leaves_is_told_no_more_and_the_last_one_ends_the_watch(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.plane.client.submit()
    rooms = gateway.gateway.beside.rooms.rooms
    async with present(gateway.host, gateway.key) as client:
        await client.join(f"task:{task_id}")
        assert rooms.watches == 1
        assert (await client.ask("LEAVE", room=f"task:{task_id}"))["type"] == "LEFT"
        assert rooms.watches == 0
        await client.join(f"task:{task_id}")
    await until(lambda: rooms.watches == 0)
    await until(lambda: gateway.plane.control.hub.watchers == 0)


async def test_a_task_too_many_is_refused(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(tasks_watched=1, rooms_per_connection=2)
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, room_limits=limits
    ) as gateway:
        first, second = [await gateway.plane.client.submit() for _ in range(2)]
        async with (
            present(gateway.host, gateway.key) as client,
            present(gateway.host, gateway.key) as other,
        ):
            await client.join(f"task:{first}")
            told = await client.refused("JOIN", room=f"task:{second}")
            assert (told["reason"], told["retry_after"]) == ("TASKS_EXHAUSTED", 10)
            await other.join(f"task:{first}")
            await client.join("workflow:w1")
            told = await client.refused("JOIN", room="workflow:w2")
            assert told["reason"] == "ROOMS_EXHAUSTED"


async def test_one_project_does_not_take_all_the_tasks_that_may_be_watched(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    limits = RoomLimits(tasks_watched=4)
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, room_limits=limits
    ) as gateway:
        elsewhere = frozenset({"elsewhere"})
        newcomer = await gateway.plane.newcomer(projects=elsewhere)
        async with (
            present(gateway.host, gateway.key) as greedy,
            present(gateway.host, await gateway.new_key(projects=elsewhere)) as other,
        ):
            for _ in range(2):
                await greedy.join(f"task:{await gateway.plane.client.submit()}")
            room = f"task:{await gateway.plane.client.submit()}"
            told = await greedy.refused("JOIN", room=room)
            assert (told["reason"], told["retry_after"]) == ("PROJECT_TASKS_EXHAUSTED", 10)
            assert "2 tasks of the project" in told["message"]
            await other.join(f"task:{await newcomer.submit()}")


async def test_a_thousand_clients_each_see_every_fact_of_their_task_in_order(
    gateway: RunningGateway,
) -> None:
    # Given a thousand clients in four rooms, over four watches
    tasks = [await gateway.plane.client.submit() for _ in range(4)]
    loop, port = asyncio.get_running_loop(), gateway.gateway.server.port
    crowd: list[Onlooker] = []
    for number in range(1000):
        room = f"task:{tasks[number % 4]}"
        _, onlooker = await loop.create_connection(
            lambda room=room: Onlooker(gateway, room), "127.0.0.1", port
        )
        crowd.append(onlooker)
    await asyncio.gather(*(onlooker.joined for onlooker in crowd))
    assert len(gateway.gateway.beside.rooms.peers) == 1000
    assert gateway.gateway.beside.rooms.rooms.watches == 4
    # When the tasks run to their ends
    for task_id in tasks:
        await tossed(gateway.plane.cell, task_id, times=4)
        await succeeded(gateway.plane.cell, task_id)
    # Then each saw all eleven facts, in order
    told = await asyncio.gather(*(onlooker.told for onlooker in crowd))
    assert {tuple(each) for each in told} == {tuple(range(1, 12))}
