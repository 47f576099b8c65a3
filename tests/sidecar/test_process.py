"""Real sidecars, killed at the worst moments: nothing is lost, and repeats keep their id."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.delivery_model import DeliveryState
from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import CallbackEvent
from callsheet.runtime.redis import connect
from tests.support.eventually import eventually
from tests.support.processes import room
from tests.support.receiver import Receiver, Reply
from tests.support.sidecars import WebhookCell, sidecar_environment, webhook_cell

ROOM = "sidecar"


@pytest.fixture
def environment(valkey_server: EmbeddedValkey, cell: str, tmp_path: Path) -> Mapping[str, str]:
    return sidecar_environment(valkey_server.url, cell, tmp_path)


async def test_a_sidecar_killed_before_it_wrote_the_answer_down_sends_the_same_again(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    """Between receive and acknowledge: the id and the bytes are those of the first time."""
    held = Reply(after=asyncio.Event())
    async with Receiver(held, Reply()) as receiver:
        with room(ROOM, environment) as first:
            task = await webhooks.succeeded(receiver.url)
            await receiver.arrived(1)
            first.kill()
        with room(ROOM, environment):
            received = await receiver.arrived(2)
            record = await webhooks.settled(task)
        assert received[0].id == received[1].id == record.id
        assert received[0].body == received[1].body
        assert (record.state, record.tries) == (DeliveryState.DELIVERED, 1)


async def test_what_ended_while_no_sidecar_ran_is_told_by_the_next_one(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    async with Receiver() as receiver:
        tasks = [await webhooks.cancelled(receiver.url) for _ in range(5)]
        with room(ROOM, environment):
            received = await receiver.arrived(5)
            for task in tasks:
                await webhooks.settled(task)
    told = sorted(each.json()["task_id"] for each in received)
    assert told == sorted(task.id for task in tasks)


async def test_tries_are_counted_on_over_a_restart(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    slowly = {**environment, "CALLSHEET_WEBHOOK_RETRY_SECONDS": "2,2,2"}
    async with Receiver(Reply(500), Reply(500), Reply()) as receiver:
        with room(ROOM, slowly) as first:
            task = await webhooks.succeeded(receiver.url)
            await webhooks.settled(task)
            first.kill()
        with room(ROOM, slowly):
            record = await webhooks.settled(task, tries=3)
    assert (record.state, record.tries) == (DeliveryState.DELIVERED, 3)
    assert len({each.id for each in receiver.received}) == 1


async def test_two_sidecars_share_the_work_and_one_goes_on_when_the_other_is_killed(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    async with Receiver() as receiver:
        with room(ROOM, environment) as first, room(ROOM, environment):
            early = [await webhooks.cancelled(receiver.url) for _ in range(20)]
            await receiver.arrived(20)
            for task in early:
                await webhooks.settled(task)
            first.kill()
            late = [await webhooks.cancelled(receiver.url) for _ in range(20)]
            for task in late:
                await webhooks.settled(task)
        told = [each.json()["task_id"] for each in receiver.received]
    assert sorted(told) == sorted(task.id for task in (*early, *late))


async def test_a_sidecar_told_to_stop_ends_what_is_in_flight(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    patient = {**environment, "CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS": "30"}
    answer = asyncio.Event()
    async with Receiver(Reply(after=answer)) as receiver:
        with room(ROOM, patient) as sidecar:
            task = await webhooks.succeeded(receiver.url)
            await receiver.arrived(1)
            ending = asyncio.create_task(asyncio.to_thread(sidecar.terminate))
            answer.set()
            assert await ending == 0
    record = await webhooks.settled(task)
    assert (record.state, record.tries) == (DeliveryState.DELIVERED, 1)
    assert len(receiver.received) == 1


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server that a test may stop."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


async def test_a_sidecar_waits_for_its_ledger_and_goes_on(
    own_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    environment = sidecar_environment(own_server.url, cell, tmp_path)
    redis: Redis = connect(own_server.url, max_connections=8)
    webhooks = webhook_cell(redis, cell, patience=timedelta(seconds=10))
    answer = asyncio.Event()
    async with Receiver(Reply(after=answer), Reply()) as receiver:
        with room(ROOM, {**environment, "CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS": "30"}) as sidecar:
            # Given a delivery in flight whose answer comes while the ledger is away
            flying = await webhooks.succeeded(receiver.url)
            await receiver.arrived(1)
            await asyncio.to_thread(own_server.stop)
            answer.set()
            await asyncio.to_thread(own_server.start)
            # Then its outcome is written as soon as the ledger is back, and work goes on
            record = await webhooks.settled(flying)
            assert (record.state, record.tries) == (DeliveryState.DELIVERED, 1)
            later = await webhooks.settled(await webhooks.cancelled(receiver.url))
            assert later.state is DeliveryState.DELIVERED
            assert sidecar.process.poll() is None
    assert len(receiver.received) == 2
    await redis.aclose()


async def test_a_sidecar_without_a_ledger_says_so(tmp_path: Path) -> None:
    environment = sidecar_environment("", "local", tmp_path)
    with pytest.raises(AssertionError, match="ended before it was ready"), room(ROOM, environment):
        pass


async def test_events_of_running_tasks_survive_every_kill_in_order_and_under_their_ids(
    webhooks: WebhookCell, environment: Mapping[str, str]
) -> None:
    """Killed after each step of the tasks' lives, and once while a webhook is on its way."""
    held = Reply(after=asyncio.Event())
    async with Receiver(*[Reply()] * 3, held, Reply()) as receiver:
        with room(ROOM, environment) as first:
            tasks = [await webhooks.submitted(receiver.url, events=tuple(CallbackEvent))]
            await receiver.arrived(1)
            tasks.append(await webhooks.submitted(receiver.url, events=tuple(CallbackEvent)))
            await receiver.arrived(2)
            first.kill()
        running = [await webhooks.started(task) for task in tasks]
        with room(ROOM, environment) as second:
            await heard(receiver, "started", count=1)
            second.kill()
        for task in running:
            time = microseconds(task.update_time) + 1
            await webhooks.progressed(task, 5, time=time)
        with room(ROOM, environment), room(ROOM, environment) as third:
            await heard(receiver, "progress", count=2)
            third.kill()
            for task in running:
                await webhooks.ended_by(task)
            for task in tasks:
                await ended(webhooks, task.id)
    for task in tasks:
        told = [each for each in receiver.received if task.id in each.id]
        first_times = {each.id: each for each in reversed(told)}
        # In order, and the same bytes under the same id; what waited gave way to what is newer
        events = [each.json()["event"] for each in told if first_times[each.id] is each]
        every = ["queued", "started", "progress", "completed"]
        assert [event for event in every if event in events] == events
        assert (events[0], events[-2:]) == ("queued", ["progress", "completed"])
        assert len({each.body for each in told}) == len(first_times)


async def heard(receiver: Receiver, event: str, *, count: int) -> None:
    """Wait until so many webhooks of the event have arrived, each counted once."""

    async def have_come() -> bool:
        ids = {each.id for each in receiver.received if each.json()["event"] == event}
        return len(ids) >= count

    await eventually(have_come)


async def ended(webhooks: WebhookCell, task_id: str) -> None:
    async def is_told() -> bool:
        records = await webhooks.of_task(task_id)
        last = records[-1] if records else None
        return last is not None and (last.event, last.state.value) == ("completed", "DELIVERED")

    await eventually(is_told)
