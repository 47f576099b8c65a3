"""The room of a project, with what happens to its tasks."""

from datetime import timedelta

import pytest

from tests.support.controls import until
from tests.support.gateways import PATIENCE, RunningGateway
from tests.support.room_clients import Envelope, RoomClient, present
from tests.support.work import succeeded


@pytest.fixture
async def ready(gateway: RunningGateway) -> RunningGateway:
    """A gateway that hears what is published."""
    await gateway.gateway.beside.rooms.rooms.shared.linked(timeout=timedelta(seconds=PATIENCE))
    return gateway


async def updates(client: RoomClient, number: int) -> list[Envelope]:
    return [await client.heard("TASK_UPDATE") for _ in range(number)]


def places(seen: list[Envelope]) -> list[tuple[str, int]]:
    return [(each["data"]["task_id"], each["data"]["sequence"]) for each in seen]


async def test_members_who_ask_for_it_see_all_tasks_of_the_project(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as all_, present(ready.host, ready.key) as quiet:
        await all_.join("project:default", tasks=True)
        await quiet.join("project:default")
        first, second = [await ready.plane.client.submit() for _ in range(2)]
        await succeeded(ready.plane.cell, second)
        await succeeded(ready.plane.cell, first)
        seen = await updates(all_, 6)
        assert sorted(places(seen)) == sorted(
            (task_id, sequence) for task_id in (first, second) for sequence in (1, 2, 3)
        )
        for task_id in (first, second):
            assert [s for t, s in places(seen) if t == task_id] == [1, 2, 3]
        assert {each["room"] for each in seen} == {"project:default"}
        # Who did not ask hears what people say, and nothing of tasks
        await all_.ask("NOTIFICATION", room="project:default", data={"text": "done"})
        assert (await quiet.hear())["type"] == "NOTIFICATION"


async def test_one_watch_serves_all_members_and_ends_with_the_last(ready: RunningGateway) -> None:
    rooms = ready.gateway.beside.rooms.rooms
    async with present(ready.host, ready.key) as a, present(ready.host, ready.key) as b:
        await a.join("project:default", tasks=True)
        await b.join("project:default", tasks=True)
        assert rooms.watches == 1
        await a.ask("LEAVE", room="project:default")
        assert rooms.watches == 1
    await until(lambda: rooms.watches == 0)
    await until(lambda: len(rooms.shared) == 0)


async def test_who_comes_back_goes_on_behind_its_cursor(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as there:
        joined = await there.join("project:default", tasks=True)
        task_id = await ready.plane.client.submit()
        await succeeded(ready.plane.cell, task_id)
        first, *_, last = await updates(there, 3)
        assert first["cursor"] != joined["cursor"] != last["cursor"]
        async with present(ready.host, ready.key) as back:
            await back.join("project:default", cursor=first["cursor"])
            assert places(await updates(back, 2)) == [(task_id, 2), (task_id, 3)]
    # With nobody there, the watch itself goes on behind the cursor
    await until(lambda: ready.gateway.beside.rooms.rooms.watches == 0)
    async with present(ready.host, ready.key) as back:
        await back.join("project:default", cursor=first["cursor"])
        assert places(await updates(back, 2)) == [(task_id, 2), (task_id, 3)]


async def test_a_cursor_that_is_not_kept_is_told(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as there, present(ready.host, ready.key) as back:
        here = await there.join("project:default", tasks=True)
        joined = await back.join("project:default", cursor="elsewhere")
        assert joined["data"]["missed"] is True
        assert joined["cursor"] == here["cursor"]


async def test_a_cursor_that_is_none_begins_anew_and_says_so(ready: RunningGateway) -> None:
    async with present(ready.host, ready.key) as client:
        joined = await client.join("project:default", cursor="nonsense")
        if not joined["data"]["missed"]:  # then it was found out a moment later
            told = await client.heard("ERROR")
            assert told["room"] == "project:default"
            assert "missed" in told["data"]["message"]
            await client.join("project:default", tasks=True)
        task_id = await ready.plane.client.submit()
        assert places(await updates(client, 1)) == [(task_id, 1)]


async def test_tasks_of_another_project_are_not_told(ready: RunningGateway) -> None:
    key = await ready.new_key(projects=frozenset({"other"}))
    newcomer = await ready.plane.newcomer(projects=frozenset({"other"}))
    async with present(ready.host, ready.key) as ours, present(ready.host, key) as theirs:
        await ours.join("project:default", tasks=True)
        await theirs.join("project:other", tasks=True)
        foreign = await newcomer.submit()
        own = await ready.plane.client.submit()
        assert places(await updates(ours, 1)) == [(own, 1)]
        assert places(await updates(theirs, 1)) == [(foreign, 1)]
