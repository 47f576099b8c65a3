"""WatchTasks: those there are, then every fact that fits, once and in order, however slowly."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
from grpc import StatusCode

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.model import Progress, Task
from callsheet.ledger.reading import Reading
from callsheet.ledger.snapshots import Snapshot
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_pb2 import (
    TASK_STATE_CANCELLED,
    TASK_STATE_PENDING,
    TASK_STATE_RUNNING,
    TASK_STATE_SUCCEEDED,
)
from tests.support.controls import (
    Client,
    Plane,
    image_request,
    ping_request,
    refusal,
    running_plane,
)
from tests.support.watches import Told, Watch, cancelled, watching, whole
from tests.support.work import started, succeeded, tossed

NOW = datetime(2030, 1, 1, tzinfo=UTC)


async def test_a_watch_begins_with_the_tasks_there_are_and_goes_on_with_what_happens(
    plane: Plane, client: Client
) -> None:
    old = [await client.submit() for _ in range(2)]
    async with watching(client) as watch:
        assert (watch.snapshot, watch.has_more) == (old[::-1], False)
        new = await client.submit()
        await succeeded(plane.cell, old[0])
        assert await watch.facts(3) == [(new, 1, "task_submitted"), *whole(old[0])[1:]]


async def test_the_snapshot_shows_tasks_as_they_are(plane: Plane, client: Client) -> None:
    task_id = await client.submit(ping_request("hello", metadata={"a": "b"}))
    attempts, task = await started(plane.cell, task_id)
    await attempts.keep_progress(task, attempt=1, progress=Progress(3, 8, "", NOW))
    watch = Watch(client)
    shown = (await watch.next()).snapshot
    assert (shown.id, shown.state, shown.sequence) == (task_id, TASK_STATE_RUNNING, 2)
    assert (shown.spec.ping.echo, shown.metadata["a"]) == ("hello", "b")
    assert (shown.progress.current, shown.epoch) == (3, plane.control.pulse.epoch)
    watch.cancel()


async def test_the_snapshot_has_as_many_as_were_asked_for(client: Client) -> None:
    tasks = [await client.submit() for _ in range(3)]
    for size, has_more in ((0, True), (2, True), (3, False)):
        async with watching(client, snapshot_size=size) as watch:
            assert (watch.snapshot, watch.has_more) == (tasks[::-1][:size], has_more)


async def test_what_happens_while_the_snapshot_is_read_is_told_once(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the tasks are read the snapshot holds it, after that an event tells it."""
    task_id = await client.submit()
    readings = Snapshot.readings

    async def late(snapshot: Snapshot) -> AsyncGenerator[Reading, None]:
        await started(plane.cell, task_id)
        async for reading in readings(snapshot):
            yield reading

    monkeypatch.setattr(Snapshot, "readings", late)
    watch = Watch(client)
    assert (await watch.next()).snapshot.sequence == 2
    await watch.begun()
    await cancelled(client, task_id)
    assert await watch.facts(1) == [(task_id, 3, "cancel_requested")]
    watch.cancel()


async def test_a_watch_goes_on_from_every_cursor_without_gap_or_repetition(
    plane: Plane, client: Client
) -> None:
    async with watching(client) as first:
        cursors = [first.cursor]
        tasks = [await client.submit() for _ in range(2)]
        for task_id in tasks:
            await succeeded(plane.cell, task_id)
        told: list[Told] = []
        for _ in range(6):
            told += await first.facts(1)
            cursors.append(first.cursor)
    assert told == [(tasks[0], 1, "task_submitted"), (tasks[1], 1, "task_submitted")] + [
        fact for task_id in tasks for fact in whole(task_id)[1:]
    ]
    for place, cursor in enumerate(cursors):
        async with watching(client, cursor=cursor) as again:
            # And goes on live
            new = await client.submit()
            wanted = told[place:]
            assert (await again.facts(len(wanted) + place + 1))[: len(wanted)] == wanted
            del new


async def test_a_cursor_is_good_on_another_server(
    valkey_server: EmbeddedValkey, cell: str, plane: Plane, client: Client
) -> None:
    async with watching(client) as watch:
        task_id = await client.submit()
        await watch.facts(1)
        cursor = watch.cursor
    async with running_plane(valkey_server.url, cell) as second:
        await succeeded(plane.cell, task_id)
        async with watching(second.client, cursor=cursor) as again:
            assert await again.facts(2) == whole(task_id)[1:]


async def test_only_tasks_of_the_project_are_told_of(plane: Plane, client: Client) -> None:
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    theirs = await stranger.submit()
    async with watching(client) as watch, watching(stranger) as other:
        assert (watch.snapshot, other.snapshot) == ([], [theirs])
        before = other.cursor
        await succeeded(plane.cell, theirs)
        own = await client.submit()
        assert await watch.facts(1) == [(own, 1, "task_submitted")]
        assert await other.facts(2) == whole(theirs)[1:]
    # A cursor of theirs, behind which the log tells of theirs too, tells nothing of it either
    async with watching(client, cursor=before) as again:
        await cancelled(client, own)
        assert await again.facts(2) == [(own, 1, "task_submitted"), (own, 2, "task_cancelled")]


async def test_a_key_of_several_projects_names_one(plane: Plane) -> None:
    both = await plane.newcomer(projects=frozenset({"default", "elsewhere"}))
    told = await refusal(Watch(both).next())
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
    await plane.client.submit()
    async with watching(both, project="default") as watch:
        assert len(watch.snapshot) == 1


async def test_only_tasks_of_those_types_are_told_of(client: Client) -> None:
    await client.submit()
    image = await client.submit(image_request())
    async with watching(client, task_types=["generate_image"]) as watch:
        assert watch.snapshot == [image]
        await client.submit()
        await cancelled(client, image)
        assert await watch.facts(1) == [(image, 2, "task_cancelled")]


async def test_only_the_named_tasks_are_told_of(client: Client) -> None:
    one, other = await client.submit(), await client.submit()
    async with watching(client, task_ids=[one.upper()]) as watch:
        assert watch.snapshot == [one]
        await cancelled(client, other)
        await cancelled(client, one)
        assert await watch.facts(1) == [(one, 2, "task_cancelled")]


async def test_a_task_is_watched_while_its_state_is_one_of_those(
    plane: Plane, client: Client
) -> None:
    """The fact by which it leaves them is told, and nothing after it."""
    task_id = await client.submit()
    async with watching(client, states=[TASK_STATE_RUNNING]) as watch:
        assert watch.snapshot == []
        await tossed(plane.cell, task_id, times=1)
        await cancelled(client, task_id)
        again = await client.submit()
        await succeeded(plane.cell, again)
        assert await watch.facts(4) == [
            (task_id, 2, "attempt_started"),
            (task_id, 3, "attempt_returned"),
            *whole(again)[1:],
        ]
    async with watching(client, states=[TASK_STATE_CANCELLED, TASK_STATE_SUCCEEDED]) as ended:
        assert ended.snapshot == [again, task_id]
        other = await client.submit()
        await succeeded(plane.cell, other)
        assert await ended.facts(1) == [(other, 3, "task_succeeded")]


@pytest.mark.parametrize("known", [True, False], ids=["seen before", "not seen before"])
async def test_a_waiting_task_that_is_cancelled_was_not_running(
    plane: Plane, client: Client, *, known: bool
) -> None:
    """Also to a server that has not heard of it: its facts tell."""
    task_id = await client.submit()
    running = await client.submit()
    async with watching(client) as watch:
        if known:
            await started(plane.cell, running)
            await watch.facts(1)
        else:
            await started(plane.cell, running)
        await cancelled(client, task_id)
        async with watching(client, states=[TASK_STATE_PENDING], cursor=watch.cursor) as pending:
            facts = await pending.facts(1 if known else 2)
            assert facts[-1] == (task_id, 2, "task_cancelled")
        async with watching(client, states=[TASK_STATE_RUNNING], cursor=watch.cursor) as busy:
            await cancelled(client, running)
            facts = await busy.facts(1 if known else 2)
            assert facts[-1] == (running, 3, "cancel_requested")


async def test_the_newest_progress_of_each_task_comes_through(plane: Plane, client: Client) -> None:
    tasks = [await client.submit() for _ in range(2)]
    runs = [await started(plane.cell, task_id) for task_id in tasks]
    async with watching(client) as watch:
        heard: dict[str, int] = {}

        async def report() -> None:
            """Report until the watcher has heard it: nobody knows when its ear is open."""
            step = 0
            while True:
                step += 1
                for attempts, task in runs:
                    await attempts.announce(task, attempt=1, progress=Progress(step, 99, "", NOW))
                await asyncio.sleep(0.02)

        reporting = asyncio.ensure_future(report())
        while set(heard) != set(tasks):
            response = await watch.next()
            if response.HasField("event"):
                assert response.event.HasField("progress")
                assert response.event.sequence == 2
                assert not response.cursor
                heard[response.event.task_id] = response.event.progress.current
        reporting.cancel()


async def test_signals_of_tasks_that_are_not_watched_are_not_told(
    plane: Plane, client: Client
) -> None:
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    theirs, waiting = await stranger.submit(), await client.submit()
    attempts, task = await started(plane.cell, theirs)
    own_attempts, own = await started(plane.cell, waiting)
    async with (
        watching(client) as watch,
        watching(client, states=[TASK_STATE_PENDING]) as pending,
        watching(stranger) as other,
    ):
        while not (await _told_soon(other, attempts, task)).HasField("progress"):
            pass
        while not (await _told_soon(watch, own_attempts, own)).HasField("progress"):
            pass
        await cancelled(client, waiting)
        told = await watch.facts(1)
        assert told == [(waiting, 3, "cancel_requested")]
        new = await client.submit()
        assert await pending.facts(1) == [(new, 1, "task_submitted")]


async def _told_soon(watch: Watch, attempts: Attempts, task: Task) -> TaskEvent:
    """Announce progress until the watch tells something, and return the event."""
    reading = asyncio.ensure_future(watch.next())
    while not reading.done():
        await attempts.announce(task, attempt=1, progress=Progress(1, 9, "", NOW))
        await asyncio.wait([reading], timeout=0.02)
    return reading.result().event
