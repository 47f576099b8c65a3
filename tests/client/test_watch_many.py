"""Watching many tasks: resumed by cursor, whatever happens to the stream, or a loud end."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from callsheet.client import AsyncTaskClient, DataLoss, InvalidArgument, TaskClient, Unavailable
from callsheet.client.states import is_signal
from callsheet.client.testing import FakeTaskService, hold, progress, running_fake
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_pb2 import TASK_STATE_RUNNING
from tests.client.conftest import QUICK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from callsheet.v1.task_service_pb2 import WatchTasksResponse

PING = [(1, "task_submitted"), (2, "attempt_started"), (3, "task_succeeded")]


async def begun(responses: AsyncIterator[WatchTasksResponse]) -> list[str]:
    """Read to the end of the snapshot; return the tasks in it."""
    found: list[str] = []
    async for response in responses:
        if response.HasField("snapshot_end"):
            break
        found.append(response.snapshot.id)
    return found


async def facts(
    responses: AsyncIterator[WatchTasksResponse], count: int
) -> list[tuple[int, str | None]]:
    """Return the sequence and kind of the next facts."""
    told: list[tuple[int, str | None]] = []
    while len(told) < count:
        event = (await anext(responses)).event
        if not is_signal(event):
            told.append((event.sequence, event.WhichOneof("event")))
    return told


async def test_a_watch_tells_the_tasks_there_are_and_then_what_happens(
    client: AsyncTaskClient,
) -> None:
    old = [(await client.submit(PingInput())) for _ in range(2)]
    for handle in old:
        await handle.result()
    async with aclosing(client.watch_tasks()) as watch:
        assert await begun(watch) == [handle.id for handle in reversed(old)]
        await client.submit(PingInput())
        assert await facts(watch, 3) == PING


async def test_a_broken_stream_goes_on_behind_the_last_fact(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    async with aclosing(client.watch_tasks()) as watch:
        await begun(watch)
        for _ in range(3):
            await client.submit(PingInput())
            first = await facts(watch, 1)
            fake.cut_streams()
            assert first + await facts(watch, 2) == PING
    asked = [call.request for call in fake.calls if call.method == "WatchTasks"]
    cursors = [getattr(request, "cursor", "") for request in asked]
    assert cursors[0] == ""
    assert all(before != after for before, after in pairwise(cursors))


async def test_a_plane_that_is_restarted_is_found_again(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    async with aclosing(client.watch_tasks()) as watch:
        await begun(watch)
        await fake.stop()
        await fake.start()
        await client.submit(PingInput())
        assert await facts(watch, 3) == PING


async def test_a_watch_goes_on_from_a_cursor(client: AsyncTaskClient) -> None:
    async with aclosing(client.watch_tasks(snapshot_size=0)) as watch:
        cursor = (await anext(watch)).cursor
    await (await client.submit(PingInput())).result()
    async with aclosing(client.watch_tasks(cursor=cursor)) as again:
        assert await facts(again, 3) == PING


async def test_only_what_is_wanted_is_watched(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, progress(1, total=2), hold())
    one, other = await client.submit(PingInput()), await client.submit(PingInput())
    wanted = client.watch_tasks(task_ids=[one.id])
    running = client.watch_tasks(states=[TASK_STATE_RUNNING], task_types=["generate_image"])
    async with aclosing(wanted) as watch, aclosing(running) as images:
        assert await begun(watch) == [one.id]
        assert await begun(images) == []
        await client.cancel(other.id)
        await client.cancel(one.id)
        assert (await facts(watch, 2))[-1][1] == "task_cancelled"
        await client.submit(GenerateImageInput(prompt="a lighthouse"))
        assert await facts(images, 2) == [(2, "attempt_started"), (3, "task_succeeded")]


async def test_a_changed_epoch_is_told_loudly(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    async with aclosing(client.watch_tasks()) as watch:
        await begun(watch)
        fake.change_epoch("fake-2")
        fake.cut_streams()
        with pytest.raises(DataLoss):
            await anext(watch)


async def test_what_no_other_try_can_help_is_raised_at_once(client: AsyncTaskClient) -> None:
    with pytest.raises(InvalidArgument):
        await anext(client.watch_tasks(cursor="nonsense"))


async def test_a_plane_that_stays_away_is_told_of(fake: FakeTaskService) -> None:
    away = timedelta(milliseconds=50)
    async with AsyncTaskClient(
        fake.address, key=fake.key, backoff=QUICK, outage_timeout=away
    ) as client:
        await fake.stop()
        with pytest.raises(Unavailable):
            await anext(client.watch_tasks())


async def test_a_watch_ends_with_its_timeout(client: AsyncTaskClient) -> None:
    watch = client.watch_tasks(timeout=timedelta(milliseconds=100))
    assert [response.HasField("snapshot_end") async for response in watch] == [True]


def test_code_without_asyncio_watches_too() -> None:
    with running_fake() as fake, TaskClient(fake.address, key=fake.key) as client:
        watch = client.watch_tasks()
        assert next(watch).HasField("snapshot_end")
        task_id = client.submit(PingInput()).id
        assert next(watch).event.task_id == task_id
        watch.close()
