"""What a callback asks for besides the end: each event, in order, the newest of what waits."""

import asyncio
from typing import Any

from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import CallbackEvent, Failure, FailureReason, Task
from callsheet.ledger.store import Candidate
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER
from tests.support.receiver import Received, Receiver, Reply
from tests.support.sidecars import WebhookCell, couriers, running, tailer

ALL = tuple(CallbackEvent)
BUSY = Failure(FailureReason.UNAVAILABLE, "the store is away", retryable=True)
URL = "https://a.example/hook"


def told(received: list[Received]) -> list[tuple[str, str, int, int]]:
    bodies: list[dict[str, Any]] = [each.json() for each in received]
    return [(b["event"], b["status"], b["sequence"], b["attempt"]) for b in bodies]


async def again(cell: WebhookCell, task: Task) -> Task:
    """Start the task's next attempt, whenever it was to come."""
    keys, store = cell.plane.keys, cell.plane.store
    await cell.redis.zrem(keys.delayed, task.id)
    await cell.redis.zadd(keys.ready("system"), {task.id: 1})
    assert await store.rank(keys.ready("system"), task.id) == 0
    claims = await cell.plane.attempts().claim(
        count=1, queues=("system",), candidates=[Candidate(0, task.id)], device="cpu"
    )
    return claims.tasks[0]


async def test_every_event_that_was_asked_for_is_told_in_order(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.submitted(receiver.url, events=ALL)
        await receiver.arrived(1)
        task = await webhooks.started(task)
        await receiver.arrived(2)
        time = microseconds(task.update_time) + 1
        await webhooks.progressed(task, 3, time=time)
        await receiver.arrived(3)
        task = await webhooks.plane.attempts().fail(task, attempt=1, failure=BUSY)
        await receiver.arrived(4)
        task = await again(webhooks, task)
        await receiver.arrived(5)
        await webhooks.plane.ledger.cancel(OWNER, task.id, reason="enough")
        await receiver.arrived(6)
        task = await webhooks.plane.attempts().read(task.id)
        await webhooks.plane.attempts().confirm_cancel(task, attempt=2)
        received = await receiver.arrived(7)
    assert told(received) == [
        ("queued", "queued", 1, 0),
        ("started", "processing", 2, 1),
        ("progress", "processing", 2, 1),
        ("retrying", "queued", 3, 1),
        ("started", "processing", 4, 2),
        ("cancelled", "processing", 5, 2),
        ("cancelled", "failed", 6, 2),
    ]
    # The id of a fact is its sequence; that of progress has its time beside it
    endings = [each.id.rpartition("_")[2] for each in received]
    assert endings == ["1", "2", f"2-{time}", "3", "4", "5", "6"]
    assert received[2].json()["progress"]["percentage"] == 30
    assert received[3].json()["error"]["message"] == "the store is away"


async def test_what_was_not_asked_for_is_not_told(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        only = await webhooks.submitted(receiver.url, events=[CallbackEvent.STARTED])
        await webhooks.started(only)
        [started] = await receiver.arrived(1)
        task = await webhooks.plane.attempts().read(only.id)
        await webhooks.progressed(task, 3, time=microseconds(task.update_time) + 1)
        await webhooks.plane.attempts().fail(
            task, attempt=1, failure=Failure(FailureReason.INVALID_INPUT, "no words")
        )
        received = await receiver.arrived(2)
    assert told([started, *received[1:]]) == [
        ("started", "processing", 2, 1),
        ("failed", "failed", 3, 1),
    ]


async def test_an_event_that_still_waits_gives_way_to_a_newer_one(webhooks: WebhookCell) -> None:
    held = Reply(after=asyncio.Event())
    async with Receiver(held, Reply()) as receiver, couriers(webhooks):
        task = await webhooks.submitted(receiver.url, events=ALL)
        await receiver.arrived(1)
        # While the first one is on its way, the task starts and ends
        await webhooks.ended(task)

        async def recorded() -> bool:
            return any(record.sequence == 3 for record in await webhooks.of_task(task.id))

        await eventually(recorded)
        assert held.after is not None
        held.after.set()
        received = await receiver.arrived(2)
        await webhooks.settled(task)
    assert [each[0] for each in told(received)] == ["queued", "completed"]


async def test_progress_is_told_once_and_the_newest_wins(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.submitted(receiver.url, events=[CallbackEvent.PROGRESS])
        task = await webhooks.started(task)
        time = microseconds(task.update_time)
        for current in (1, 2, 3):
            await webhooks.progressed(task, current, time=time + current)
        first = (await receiver.arrived(1))[0]
        # What is older than what was told, as a tailer that takes over might find it, is passed by
        await webhooks.progressed(task, 2, time=time + 2)
        await webhooks.progressed(task, 9, time=time + 2_000_000)
        later = (await receiver.arrived(2))[1]
        # Ended progress is not kept
        await webhooks.ended_by(task)
        await receiver.arrived(3)
        records = await webhooks.of_task(task.id)
    assert first.json()["progress"]["current"] <= 3
    assert later.json()["progress"]["current"] == 9
    assert [record.event for record in records] == ["completed"]


async def test_a_tailer_that_takes_over_tells_the_progress_of_what_runs(
    webhooks: WebhookCell,
) -> None:
    # Given a task that started while another one tailed
    task = await webhooks.submitted(URL, events=[CallbackEvent.PROGRESS])
    async with running(tailer(webhooks, holder="one")):
        task = await webhooks.started(task)
        end = await webhooks.plane.log.end()

        async def read() -> bool:
            return (await webhooks.plane.log.cursors()).get("sidecar") == end

        await eventually(read)
    # When it comes further
    await webhooks.progressed(task, 5, time=microseconds(task.update_time) + 1)
    async with running(tailer(webhooks, holder="two")):

        async def recorded() -> list[str]:
            return [record.event for record in await webhooks.of_task(task.id)]

        assert await eventually(recorded) == ["progress"]


async def test_progress_of_an_earlier_attempt_is_not_told_as_the_later_one_s(
    webhooks: WebhookCell,
) -> None:
    task = await webhooks.submitted(
        URL, events=[CallbackEvent.PROGRESS, CallbackEvent.STARTED, CallbackEvent.RETRYING]
    )
    task = await webhooks.started(task)
    await webhooks.progressed(task, 5, time=microseconds(task.update_time) + 1)
    task = await webhooks.plane.attempts().fail(task, attempt=1, failure=BUSY)
    task = await again(webhooks, task)
    async with running(tailer(webhooks)):
        marker = await webhooks.cancelled(URL)

        async def passed() -> bool:
            return bool(await webhooks.of_task(marker.id))

        await eventually(passed)
        records = await webhooks.of_task(task.id)
    assert [(record.event, record.sequence) for record in records] == [("started", 4)]
