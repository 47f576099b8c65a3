"""WatchTask: every fact once and in order, whoever asks, from wherever, however slowly."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from grpc import StatusCode, aio

from callsheet.control.hub import Hub
from callsheet.control.inbox import FACTS_KEPT, Inbox
from callsheet.control.pulse import Pulse
from callsheet.control.watching import Watching
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.codec import parse_event
from callsheet.ledger.errors import CursorLost
from callsheet.ledger.log import LogEntry
from callsheet.ledger.model import Progress
from callsheet.ledger.redis_log import RedisLog
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_service_pb2 import CancelTaskRequest, WaitTaskRequest, WatchTaskResponse
from tests.support.controls import (
    Client,
    Plane,
    events,
    next_event,
    refusal,
    running_plane,
    until,
)
from tests.support.ledgers import OWNER
from tests.support.work import started, succeeded, tossed

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _kinds(seen: list[TaskEvent]) -> list[tuple[int, str | None]]:
    return [(event.sequence, event.WhichOneof("event")) for event in seen]


async def test_a_watch_tells_every_fact_and_ends_after_the_final_one(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    watch = asyncio.ensure_future(events(client.watch(task_id)))
    await succeeded(plane.cell, task_id)
    seen = await watch
    assert _kinds(seen) == [(1, "task_submitted"), (2, "attempt_started"), (3, "task_succeeded")]
    assert {event.task_id for event in seen} == {task_id}
    assert {event.epoch for event in seen} == {plane.control.pulse.epoch}
    assert {event.version for event in seen} == {1}
    assert all(event.HasField("time") for event in seen)


@pytest.mark.parametrize("after", range(8))
async def test_a_watch_resumes_from_any_sequence(plane: Plane, client: Client, after: int) -> None:
    task_id = await client.submit()
    await tossed(plane.cell, task_id, times=2)
    await succeeded(plane.cell, task_id)
    seen = await events(client.watch(task_id, after=after))
    assert [event.sequence for event in seen] == list(range(after + 1, 8))


@pytest.mark.parametrize("after", range(4))
async def test_a_watch_goes_on_live_from_any_sequence(
    plane: Plane, client: Client, after: int
) -> None:
    task_id = await client.submit()
    await tossed(plane.cell, task_id, times=1)
    watch = client.watch(task_id, after=after)
    seen = [await next_event(watch) for _ in range(3 - after)]
    await until(lambda: plane.control.hub.watchers == 1)
    await tossed(plane.cell, task_id, times=3)
    request = CancelTaskRequest(task_id=task_id)
    await client.tasks.CancelTask(request, metadata=client.metadata)
    while not seen or not seen[-1].HasField("task_cancelled"):
        seen.append(await next_event(watch))
    assert await watch.read() is aio.EOF
    assert [event.sequence for event in seen] == list(range(after + 1, 11))


async def test_a_long_history_is_told_in_full(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    await tossed(plane.cell, task_id, times=150)
    await succeeded(plane.cell, task_id)
    seen = await events(client.watch(task_id))
    assert [event.sequence for event in seen] == list(range(1, 304))


async def test_a_watch_shows_progress_as_it_comes(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    watch = client.watch(task_id)
    assert [(await next_event(watch)).sequence for _ in range(2)] == [1, 2]
    step = 0

    async def report() -> None:
        """Report until the watcher has heard it: nobody knows when its ear is open."""
        nonlocal step
        while True:
            step += 1
            await attempts.announce(task, attempt=1, progress=Progress(step, 99, "", NOW))
            await asyncio.sleep(0.02)

    reporting = asyncio.ensure_future(report())
    signal = await next_event(watch)
    reporting.cancel()
    assert signal.WhichOneof("event") == "progress"
    assert signal.sequence == 2
    assert 1 <= signal.progress.current <= step
    watch.cancel()


async def test_who_comes_late_gets_the_latest_progress(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    for step in (1, 2, 3):
        await attempts.keep_progress(task, attempt=1, progress=Progress(step, 8, "", NOW))
    watch = client.watch(task_id, after=1)
    fact, signal = await next_event(watch), await next_event(watch)
    assert fact.WhichOneof("event") == "attempt_started"
    assert (signal.WhichOneof("event"), signal.sequence) == ("progress", 2)
    assert (signal.progress.current, signal.progress.total) == (3, 8)
    watch.cancel()


async def test_progress_of_a_final_task_is_not_told(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    await attempts.keep_progress(task, attempt=1, progress=Progress(1, 8, "", NOW))
    await attempts.hand_back(task, attempt=1, reason="tossed")
    await succeeded(plane.cell, task_id)
    seen = await events(client.watch(task_id))
    assert [event.sequence for event in seen] == [1, 2, 3, 4, 5]
    assert not any(event.HasField("progress") for event in seen)


async def test_a_slow_reader_holds_a_bounded_number_of_facts_and_misses_none(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    watching = Watching(plane.cell.ledger, plane.control.hub, plane.control.pulse)
    async with aclosing(watching.events(OWNER, task_id, after=0, epoch="")) as reader:
        first = await anext(reader)
        quick = client.watch(task_id)
        # While the one does not read at all, another one follows to the end
        await tossed(plane.cell, task_id, times=2 * FACTS_KEPT)
        await succeeded(plane.cell, task_id)
        assert len(await events(quick)) == 4 * FACTS_KEPT + 3
        await until(lambda: plane.control.hub.watchers == 1)
        assert plane.control.hub.backlog <= FACTS_KEPT
        rest = [payload async for payload in reader]
    seen = [WatchTaskResponse.FromString(payload).event.sequence for payload in (first, *rest)]
    assert seen == list(range(1, 4 * FACTS_KEPT + 4))


async def test_many_watchers_of_a_task_share_one_encoded_event(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    hub = plane.control.hub
    with hub.subscribe(task_id) as one, hub.subscribe(task_id) as other:
        for inbox in (one, other):
            await inbox.filled()
            assert inbox.catch_up()
        await started(plane.cell, task_id)
        first, second = await _next_fact(one), await _next_fact(other)
    assert first is second


async def _next_fact(inbox: Inbox) -> object:
    while True:
        await inbox.filled()
        if (fact := inbox.take()) is not None:
            return fact


async def test_two_servers_tell_the_same(
    valkey_server: EmbeddedValkey, cell: str, plane: Plane, client: Client
) -> None:
    async with running_plane(valkey_server.url, cell) as second:
        task_id = await client.submit()
        here = asyncio.ensure_future(events(client.watch(task_id)))
        there = asyncio.ensure_future(events(second.client.watch(task_id)))
        await until(lambda: plane.control.hub.watchers + second.control.hub.watchers == 2)
        await tossed(plane.cell, task_id, times=3)
        await succeeded(plane.cell, task_id)
        assert await here == await there
        assert len(await here) == 9


async def test_a_reader_of_another_epoch_is_told(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    told = await refusal(next_event(client.watch(task_id, epoch="another")))
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "EPOCH_CHANGED")
    assert told.metadata == {"remembered": "another", "current": plane.control.pulse.epoch}


async def test_a_reader_of_the_present_epoch_goes_on(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    await plane.cell.log.change_epoch("restored")
    # The server has not looked since: it asks before it refuses
    watch = client.watch(task_id, epoch="restored")
    assert (await next_event(watch)).epoch == "restored"
    watch.cancel()


async def test_a_watch_ends_when_the_epoch_changes(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    await plane.cell.log.change_epoch("restored")
    told = await refusal(watch.read())
    assert (told.code, told.reason) == (StatusCode.DATA_LOSS, "EPOCH_CHANGED")
    assert told.metadata["current"] == "restored"


async def test_a_tail_that_lost_its_place_makes_watchers_read_the_store(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    lost = asyncio.Event()

    async def lose(*_: object, **__: object) -> None:
        monkeypatch.undo()
        lost.set()
        raise CursorLost("1-0")

    monkeypatch.setattr(RedisLog, "after", lose)
    await lost.wait()
    await succeeded(plane.cell, task_id)
    seen = [await next_event(watch) for _ in range(2)]
    assert _kinds(seen) == [(2, "attempt_started"), (3, "task_succeeded")]


async def test_a_fact_that_the_tail_leaves_out_is_read_from_the_store(
    plane: Plane, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    whole = RedisLog.after

    async def holed(log: RedisLog, *place: str, limit: int, timeout: timedelta) -> list[LogEntry]:
        entries = await whole(log, *place, limit=limit, timeout=timeout)
        return [e for e in entries if not parse_event(e.event).HasField("attempt_started")]

    monkeypatch.setattr(RedisLog, "after", holed)
    # The read that is under way is a whole one: of several facts the later ones are left out.
    await tossed(plane.cell, task_id, times=3)
    await succeeded(plane.cell, task_id)
    seen = [await next_event(watch) for _ in range(8)]
    assert [event.sequence for event in seen] == list(range(2, 10))


async def test_a_watcher_that_leaves_is_forgotten(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    assert plane.control.hub.watchers == 1
    watch.cancel()
    await until(lambda: plane.control.hub.watchers == 0)


async def test_a_server_about_to_end_sends_its_watchers_elsewhere(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    request = WaitTaskRequest(task_id=task_id)
    waiting = client.tasks.WaitTask(request, metadata=client.metadata)
    await until(lambda: plane.control.hub.watchers == 2)
    plane.control.hub.shut_down()
    for call in (watch.read(), waiting, client.watch(task_id).read()):
        told = await refusal(call)
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert told.retry_delay is not None


async def test_the_hub_follows_the_log_only_while_somebody_watches(
    plane: Plane, client: Client
) -> None:
    hub: Hub = plane.control.hub
    pulse: Pulse = plane.control.pulse
    assert pulse.answers
    assert not hub.is_linked
    task_id = await client.submit()
    watch = client.watch(task_id)
    await next_event(watch)
    assert hub.is_linked
    watch.cancel()
    await until(lambda: not hub.is_linked)
