"""Watching: every fact once and in order, whatever happens to the stream, or a loud end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client import (
    AsyncTaskClient,
    DataLoss,
    Internal,
    OutOfRange,
    TaskNotFound,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)
from callsheet.client.testing import (
    FakeTaskService,
    fail,
    fail_attempt,
    hold,
    hold_pending,
    progress,
    succeed,
)
from callsheet.client.watch import WatchCursor
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_event_pb2 import AttemptStarted, TaskEvent, TaskSubmitted, TaskSucceeded
from callsheet.v1.task_pb2 import Progress
from tests.client.conftest import QUICK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"


def fact(sequence: int, *, epoch: str = "e1", version: int = 1) -> TaskEvent:
    return TaskEvent(
        version=version, sequence=sequence, epoch=epoch, attempt_started=AttemptStarted()
    )


def signal(seconds: int, *, sequence: int = 2) -> TaskEvent:
    return TaskEvent(
        version=1,
        sequence=sequence,
        epoch="e1",
        time=Timestamp(seconds=seconds),
        progress=Progress(current=seconds),
    )


def kinds(events: list[TaskEvent]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def collect(events: AsyncIterator[TaskEvent]) -> list[TaskEvent]:
    return [event async for event in events]


def test_a_cursor_lets_each_fact_pass_once() -> None:
    cursor = WatchCursor()
    assert [cursor.accept(fact(sequence)) for sequence in (1, 2, 1, 2, 3)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert (cursor.sequence, cursor.epoch) == (3, "e1")


def test_a_cursor_is_loud_about_a_gap() -> None:
    cursor = WatchCursor(sequence=1)
    with pytest.raises(DataLoss) as lost:
        cursor.accept(fact(3))
    assert lost.value.reason == "SEQUENCE_GAP"
    assert "fact 2 is missing" in str(lost.value)
    assert cursor.sequence == 1


def test_a_cursor_is_loud_about_another_epoch() -> None:
    cursor = WatchCursor()
    cursor.accept(fact(1))
    with pytest.raises(DataLoss) as lost:
        cursor.accept(fact(2, epoch="e2"))
    assert lost.value.reason == "EPOCH_CHANGED"


def test_a_cursor_refuses_a_version_it_does_not_know() -> None:
    with pytest.raises(Unimplemented) as refused:
        WatchCursor().accept(fact(1, version=2))
    assert refused.value.reason == "VERSION_UNKNOWN"


def test_of_signals_only_newer_ones_pass_and_none_moves_the_cursor() -> None:
    cursor = WatchCursor(sequence=2)
    assert [cursor.accept(signal(seconds)) for seconds in (5, 5, 4, 6)] == [
        True,
        False,
        False,
        True,
    ]
    assert cursor.sequence == 2


def test_a_fact_that_is_newer_than_this_client_passes_like_any_other() -> None:
    cursor = WatchCursor(sequence=1)
    assert cursor.accept(TaskEvent(version=1, sequence=2, epoch="e1"))
    assert cursor.sequence == 2


async def test_a_watch_sees_every_fact_to_the_final_one(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    gate = hold()
    fake.script("ping", progress(1, total=2), gate, fail_attempt(), succeed(PingOutput(echo="x")))
    handle = await client.submit(PingInput())
    gate.release()
    events = await collect(handle.watch())
    facts = [event for event in events if not event.HasField("progress")]
    assert kinds(facts) == [
        "task_submitted",
        "attempt_started",
        "attempt_failed",
        "attempt_started",
        "task_succeeded",
    ]
    assert [event.sequence for event in facts] == [1, 2, 3, 4, 5]


async def test_who_comes_late_gets_the_latest_signal(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    gate = hold()
    fake.script("ping", progress(1, total=4), progress(2, total=4, message="half"), gate)
    handle = await client.submit(PingInput())
    signals: list[Progress] = []
    async for event in handle.watch():
        if event.HasField("progress"):
            signals.append(event.progress)
            gate.release()
    assert [(each.current, each.percentage, each.message) for each in signals][-1] == (
        2,
        50,
        "half",
    )


async def test_a_watch_may_start_after_any_fact(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    handle = await client.submit(PingInput())
    await handle.wait()
    assert [event.sequence for event in await collect(handle.watch(after_sequence=1))] == [2, 3]


async def test_a_watch_after_the_final_fact_ends_at_once(client: AsyncTaskClient) -> None:
    handle = await client.submit(PingInput())
    task = await handle.wait()
    assert await collect(handle.watch(after_sequence=task.sequence)) == []


async def test_a_watch_goes_on_after_its_stream_was_cut(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a task that is being watched while it runs
    gate = hold()
    fake.script("ping", gate, fail())
    handle = await client.submit(PingInput())
    events: list[TaskEvent] = []
    async for event in handle.watch():
        events.append(event)
        # When its stream is cut, and the task then ends
        if event.HasField("attempt_started"):
            fake.cut_streams()
            gate.release()
    # Then the watcher saw each fact once, and asked for the rest only
    assert kinds(events) == ["task_submitted", "attempt_started", "task_failed"]
    watches = [call for call in fake.calls if call.method == "WatchTask"]
    assert len(watches) == 2
    assert str(watches[1].request).split() == [
        "task_id:",
        f'"{handle.id}"',
        "after_sequence:",
        "2",
        "epoch:",
        '"fake-1"',
    ]


async def test_a_watch_survives_a_restart_of_the_server(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a task that is being watched while it runs
    gate = hold()
    fake.script("ping", gate, fail_attempt(), succeed(PingOutput(echo="after")))
    handle = await client.submit(PingInput(), output=PingOutput)
    events: list[TaskEvent] = []
    starting: asyncio.Task[None] | None = None
    async for event in handle.watch():
        events.append(event)
        if event.sequence == 2:
            # When the server goes away and comes back, and the task goes on meanwhile
            await fake.stop()
            gate.release()
            starting = asyncio.create_task(fake.start())
    # Then not one fact is missing or doubled
    assert starting is not None
    await starting
    facts = [event.sequence for event in events]
    assert facts == [1, 2, 3, 4, 5]
    assert (await handle.result()).echo == "after"


async def test_a_server_that_asks_for_patience_gets_it(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    away = Unavailable("away", retry_delay=timedelta(milliseconds=1))
    fake.refuse("WatchTask", away, times=3)
    handle = await client.submit(PingInput())
    assert len(await collect(handle.watch())) == 3


async def test_a_plane_that_stays_away_ends_the_watch(fake: FakeTaskService) -> None:
    fake.refuse("WatchTask", Unavailable("away"), times=100_000)
    async with AsyncTaskClient(
        fake.address, key=fake.key, outage_timeout=timedelta(milliseconds=100), backoff=QUICK
    ) as client:
        handle = await client.submit(PingInput())
        with pytest.raises(Unavailable):
            await collect(handle.watch())


async def test_another_error_ends_the_watch_at_once(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    handle = await client.submit(PingInput())
    fake.refuse("WatchTask", Internal("broken"))
    with pytest.raises(Internal):
        await collect(handle.watch())
    assert sum(call.method == "WatchTask" for call in fake.calls) == 1


async def test_a_watch_has_a_timeout(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    fake.script("ping", hold())
    handle = await client.submit(PingInput())
    with pytest.raises(WaitTimeout) as late:
        await collect(handle.watch(timeout=timedelta(milliseconds=100)))
    assert late.value.task_id == handle.id


async def test_an_unknown_task_cannot_be_watched(client: AsyncTaskClient) -> None:
    with pytest.raises(TaskNotFound):
        await collect(client.watch(NOWHERE))


async def test_a_sequence_that_is_not_there_yet_is_out_of_range(client: AsyncTaskClient) -> None:
    handle = await client.submit(PingInput())
    with pytest.raises(OutOfRange) as refused:
        await collect(handle.watch(after_sequence=99))
    assert refused.value.reason == "SEQUENCE_AHEAD"


async def test_a_restored_ledger_is_told_loudly(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a watcher of a running task
    fake.script("ping", hold())
    handle = await client.submit(PingInput())

    async def watch() -> None:
        async for event in handle.watch():
            # When the ledger is restored and the stream breaks
            if event.sequence == 2:
                fake.change_epoch("fake-2")
                fake.cut_streams()

    # Then the watcher does not go on as if nothing had happened
    with pytest.raises(DataLoss) as lost:
        await watch()
    assert lost.value.reason == "EPOCH_CHANGED"


async def test_a_missing_fact_is_told_loudly(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a server that lost a fact in the middle
    handle = await client.submit(PingInput())
    await handle.wait()
    del fake.record(handle.id).log[1]
    with pytest.raises(DataLoss) as lost:
        await collect(handle.watch())
    assert lost.value.reason == "SEQUENCE_GAP"


async def test_a_doubled_fact_is_seen_once(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    handle = await client.submit(PingInput())
    await handle.wait()
    log = fake.record(handle.id).log
    log.insert(1, log[0])
    assert [event.sequence for event in await collect(handle.watch())] == [1, 2, 3]


async def test_a_stream_that_ends_too_early_is_resumed(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a server that forgets to send the final fact the first time
    handle = await client.submit(PingInput())
    await handle.wait()
    log = fake.record(handle.id).log
    final = log.pop()
    events: list[TaskEvent] = []
    async for event in handle.watch():
        events.append(event)
        if event.sequence == 2:
            asyncio.get_running_loop().call_soon(log.append, final)
    assert kinds(events)[-1] == "task_succeeded"


async def test_a_watch_may_be_left_early(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    fake.script("ping", hold_pending())
    handle = await client.submit(PingInput())
    async with aclosing(handle.watch()) as events:
        first = await anext(events)
    assert first.task_submitted.HasField("spec")
    assert await collect(events) == []


def test_the_final_fact_has_a_kind_of_its_own() -> None:
    """The words that end a watch are those of the contract."""
    names = {field.name for field in TaskEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert {"task_succeeded", "task_failed", "task_cancelled", "progress"} <= names
    assert TaskEvent(task_succeeded=TaskSucceeded()).WhichOneof("event") in names
    assert TaskEvent(task_submitted=TaskSubmitted()).WhichOneof("event") in names
