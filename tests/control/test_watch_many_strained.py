"""WatchTasks under strain: slow readers, lost places, limits, and servers that end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import pytest
from grpc import StatusCode

from callsheet.control import feed as feed_module
from callsheet.control.feed_inbox import FACTS_KEPT, FeedInbox
from callsheet.control.watching_many import WatchingMany
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.errors import CursorLost
from callsheet.ledger.log import LogEntry
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.snapshots import WatchFilter
from callsheet.v1.task_service_pb2 import (
    WatchTasksResponse,
)
from tests.support.controls import (
    Client,
    Plane,
    refusal,
    running_plane,
    until,
)
from tests.support.ledgers import OWNER
from tests.support.watches import Watch, watching, whole
from tests.support.work import succeeded

SOON = timedelta(milliseconds=20)


async def test_an_idle_watch_is_told_how_far_the_log_has_come_without_it(
    plane: Plane, client: Client
) -> None:
    """So its cursor stays one that the log still holds."""
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    cell, control = plane.cell, plane.control
    many = WatchingMany(cell.ledger, cell.log, control.hub, control.pulse, idle=SOON)
    wanted = WatchFilter("default")
    responses = many.responses(OWNER, wanted, cursor="", snapshot_size=0)
    async with aclosing(responses) as reader:
        first = WatchTasksResponse.FromString(await anext(reader))
        assert first.HasField("snapshot_end")
        await stranger.submit()
        moved = WatchTasksResponse.FromString(await anext(reader))
        assert not moved.HasField("event")
        assert moved.cursor.endswith(await cell.log.end())


async def test_a_slow_reader_holds_a_bounded_number_of_facts_and_misses_none(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeedInbox.__init__, "__kwdefaults__", {"limit": 16})
    cell, control = plane.cell, plane.control
    many = WatchingMany(cell.ledger, cell.log, control.hub, control.pulse, idle=SOON)
    responses = many.responses(OWNER, WatchFilter("default"), cursor="", snapshot_size=0)
    async with aclosing(responses) as reader, watching(client) as quick:
        await anext(reader)
        first = await client.submit()
        told = [await _next_fact(reader)]
        # While the one does not read at all, another one follows
        tasks = [await client.submit() for _ in range(50)]
        await quick.facts(51)
        assert control.hub.backlog <= 16
        told += [await _next_fact(reader) for _ in tasks]
        new = await client.submit()
        told.append(await _next_fact(reader))
    assert told == [(task_id, 1) for task_id in (first, *tasks, new)]
    assert FACTS_KEPT > 16


async def _next_fact(reader: AsyncGenerator[bytes, None]) -> tuple[str, int]:
    while True:
        response = WatchTasksResponse.FromString(await anext(reader))
        if response.HasField("event"):
            return response.event.task_id, response.event.sequence


async def test_a_tail_that_lost_its_place_makes_watchers_read_the_log(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(client) as watch:
        await until(lambda: plane.control.hub.is_linked)
        after, lost = RedisLog.after, asyncio.Event()

        async def lose(
            log: RedisLog, *place: str, limit: int, timeout: timedelta
        ) -> list[LogEntry]:
            if timeout > NO_TIME and not lost.is_set():
                lost.set()
                raise CursorLost("1-0")
            return await after(log, *place, limit=limit, timeout=timeout)

        monkeypatch.setattr(RedisLog, "after", lose)
        await lost.wait()
        task_id = await client.submit()
        await succeeded(plane.cell, task_id)
        assert await watch.facts(3) == whole(task_id)


async def test_a_cursor_behind_what_the_log_holds_is_told_loudly(
    plane: Plane, client: Client
) -> None:
    async with watching(client) as watch:
        cursor = watch.cursor
    for _ in range(2):
        await client.submit()
    await plane.cell.log.trim(await plane.cell.log.end())
    told = await refusal(Watch(client, cursor=cursor).next())
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "CURSOR_LOST")


async def test_a_cursor_of_what_the_log_has_lost_is_told_loudly(
    plane: Plane, client: Client
) -> None:
    cursor = f"{plane.control.pulse.epoch}:{2**50}-0"
    told = await refusal(Watch(client, cursor=cursor).next())
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "CURSOR_LOST")


async def test_a_cursor_of_another_epoch_is_told_loudly(plane: Plane, client: Client) -> None:
    told = await refusal(Watch(client, cursor="another:1-0").next())
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "EPOCH_CHANGED")
    async with watching(client) as watch:
        await plane.cell.log.change_epoch("restored")
        told = await refusal(watch.next())
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "EPOCH_CHANGED")


async def test_an_unknown_task_type_is_named(client: Client) -> None:
    told = await refusal(Watch(client, task_types=["ping", "nothing"]).next())
    assert (told.code, told.fields) == (StatusCode.INVALID_ARGUMENT, ("task_types[1]",))


async def test_a_server_takes_only_so_many_watchers(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feed_module.MOST_WATCHERS >= 1_000
    monkeypatch.setattr(plane.control.hub.feed, "_most_watchers", 2)
    async with watching(client), watching(client):
        told = await refusal(Watch(client).next())
        assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "WATCHERS_FULL")
        assert told.retry_delay is not None
    await until(lambda: plane.control.hub.watchers == 0)
    async with watching(client):
        pass


async def test_no_project_takes_the_place_of_all_watchers(
    valkey_server: EmbeddedValkey, cell: str
) -> None:
    async with running_plane(valkey_server.url, cell, watchers=4) as plane:
        other = await plane.newcomer(projects=frozenset({"other"}))
        async with watching(plane.client), watching(plane.client):
            told = await refusal(Watch(plane.client).next())
            assert (told.code, told.reason) == (
                StatusCode.RESOURCE_EXHAUSTED,
                "PROJECT_WATCHERS_FULL",
            )
            assert told.metadata == {"project": "default", "limit": "2"}
            assert told.retry_delay is not None
            async with watching(other):
                pass
        await until(lambda: plane.control.hub.watchers == 0)
        async with watching(plane.client):
            pass


async def test_a_server_about_to_end_sends_its_watchers_elsewhere(
    plane: Plane, client: Client
) -> None:
    async with watching(client) as watch:
        plane.control.hub.shut_down()
        for call in (watch.next(), Watch(client).next()):
            told = await refusal(call)
            assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


async def test_a_watcher_that_leaves_is_forgotten(plane: Plane, client: Client) -> None:
    async with watching(client):
        await until(lambda: plane.control.hub.is_linked)
    await until(lambda: plane.control.hub.watchers == 0 and not plane.control.hub.is_linked)


async def test_many_watchers_share_one_encoded_event(plane: Plane, client: Client) -> None:
    hub = plane.control.hub
    wanted = WatchFilter("default")
    with hub.subscribe_many(wanted) as one, hub.subscribe_many(wanted) as other:
        for inbox in (one, other):
            await inbox.filled()
            assert inbox.catch_up()
        await client.submit()
        await one.filled()
        await other.filled()
        assert one.take() is other.take()
