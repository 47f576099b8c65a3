"""Deliveries that ended are made again, under the same id; who is gone is asked once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.delivery_model import DeliveryState
from callsheet.ledger.delivery_overview import DeliveryFilter, DeliveryOverview
from callsheet.ledger.errors import (
    DeliveryNotFound,
    PageTokenInvalid,
    ProjectNotFound,
    RoleMissing,
    TaskNotFound,
)
from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import CallbackEvent
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, STRANGER
from tests.support.receiver import Receiver, Reply
from tests.support.sidecars import TERMS, WebhookCell, couriers

GONE = Reply(410)
ONCE = replace(TERMS, schedule=())
ANY = DeliveryFilter()
READER = Principal("2", frozenset({"default"}), frozenset({Role.READ, Role.SUBMIT}))
NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"


def overview(cell: WebhookCell) -> DeliveryOverview:
    return DeliveryOverview(cell.plane.store, cell.kept)


async def delivered(cell: WebhookCell, task_id: str) -> None:
    async def are_all() -> bool:
        records = await cell.of_task(task_id)
        return all(record.state is DeliveryState.DELIVERED for record in records)

    await eventually(are_all)


async def test_a_dead_delivery_is_replayed_with_its_id_and_all_its_tries(
    webhooks: WebhookCell,
) -> None:
    async with Receiver(*[Reply(500)] * 6, Reply()) as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        dead = await webhooks.settled(task, tries=4)
        assert dead.state is DeliveryState.DEAD
        replayed = await overview(webhooks).replay_one(OWNER, dead.id)
        assert replayed.count == 1
        await delivered(webhooks, task.id)
        [record] = await webhooks.of_task(task.id)
    assert len({(each.id, each.body) for each in receiver.received}) == 1
    assert (record.id, record.tries, record.create_time) == (dead.id, 3, dead.create_time)


async def test_a_delivered_one_is_replayed_too_when_it_is_asked_for(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        await webhooks.settled(task)
        asked = overview(webhooks)
        assert (await asked.replay_matching(OWNER, ANY, limit=10, token="")).count == 0
        wanted = DeliveryFilter(state=DeliveryState.DELIVERED, url=receiver.url)
        assert (await asked.replay_matching(OWNER, wanted, limit=10, token="")).count == 1
        received = await receiver.arrived(2)
    assert received[0].id == received[1].id


async def test_what_waits_for_hours_is_tried_at_once(webhooks: WebhookCell) -> None:
    hours = replace(TERMS, schedule=(timedelta(hours=9),) * 3)
    async with Receiver(Reply(500), Reply()) as receiver, couriers(webhooks, terms=hours):
        task = await webhooks.succeeded(receiver.url)
        record = await webhooks.settled(task)
        await overview(webhooks).replay_one(OWNER, record.id)
        await webhooks.settled(task, tries=2)
    assert len(receiver.received) == 2


async def test_a_task_is_replayed_from_a_sequence_in_order(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.submitted(receiver.url, events=tuple(CallbackEvent))
        await receiver.arrived(1)
        task = await webhooks.started(task)
        await receiver.arrived(2)
        await webhooks.ended_by(task)
        await receiver.arrived(3)
        await delivered(webhooks, task.id)
        replayed = await overview(webhooks).replay_task(
            OWNER, task.id, from_sequence=2, limit=10, token=""
        )
        assert replayed.count == 2
        received = await receiver.arrived(5)
    assert [each.json()["sequence"] for each in received] == [1, 2, 3, 2, 3]
    assert [each.id for each in received[3:]] == [each.id for each in received[1:3]]


async def test_a_replay_is_bounded_and_goes_on_where_it_stopped(webhooks: WebhookCell) -> None:
    async with Receiver(Reply(500)) as receiver, couriers(webhooks, terms=ONCE):
        tasks = [await webhooks.cancelled(receiver.url) for _ in range(5)]
        for task in tasks:
            await webhooks.settled(task)
    asked, token, counts = overview(webhooks), "", list[int]()
    while True:
        page = await asked.replay_matching(OWNER, ANY, limit=2, token=token)
        counts.append(page.count)
        token = page.next_token
        if not token:
            break
    assert (sum(counts), max(counts)) == (5, 2)


async def test_after_410_later_deliveries_end_at_once_until_it_is_enabled(
    webhooks: WebhookCell,
) -> None:
    async with Receiver(GONE, Reply()) as receiver, couriers(webhooks):
        first = await webhooks.settled(await webhooks.succeeded(receiver.url))
        assert (first.state, first.last_status) == (DeliveryState.DEAD, 410)
        [disabled] = await webhooks.registry.disabled()
        assert (disabled.project, disabled.disabled.url) == ("default", receiver.url)
        # Given it is disabled, nobody asks it
        later = await webhooks.cancelled(receiver.url)

        async def dead() -> bool:
            return any(r.state is DeliveryState.DEAD for r in await webhooks.of_task(later.id))

        await eventually(dead)
        [record] = await webhooks.of_task(later.id)
        assert (record.tries, len(receiver.received)) == (0, 1)
        assert record.last_error.startswith("the endpoint is disabled: the endpoint answered 410")
        # Another URL of the same origin is another endpoint
        other = await webhooks.cancelled(f"{receiver.url}/other")
        assert (await webhooks.settled(other)).state is DeliveryState.DELIVERED
        # When it is enabled, then the next one arrives
        assert await webhooks.registry.enable("default", receiver.url)
        third = await webhooks.settled(await webhooks.cancelled(receiver.url))
        assert third.state is DeliveryState.DELIVERED


async def test_a_replay_enables_the_endpoint(webhooks: WebhookCell) -> None:
    async with Receiver(GONE, Reply()) as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        dead = await webhooks.settled(task)
        await overview(webhooks).replay_one(OWNER, dead.id)
        await delivered(webhooks, task.id)
    assert await webhooks.registry.disabled() == []
    assert len({each.id for each in receiver.received}) == 1


async def test_deliveries_are_listed_by_state_url_and_time(webhooks: WebhookCell) -> None:
    asked = overview(webhooks)
    async with Receiver() as good, Receiver(Reply(500)) as bad, couriers(webhooks, terms=ONCE):
        url = good.url
        for _ in range(3):
            await webhooks.settled(await webhooks.cancelled(url))
            await webhooks.settled(await webhooks.cancelled(bad.url))
    every = (await asked.page(OWNER, ANY, size=200, token="")).deliveries
    times = [record.create_time for record in every]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 6

    async def states(wanted: DeliveryFilter) -> list[str]:
        page = await asked.page(OWNER, wanted, size=200, token="")
        return [record.state.value for record in page.deliveries]

    assert await states(DeliveryFilter(state=DeliveryState.DEAD)) == ["DEAD"] * 3
    assert await states(DeliveryFilter(state=DeliveryState.DELIVERED)) == ["DELIVERED"] * 3
    assert await states(DeliveryFilter(state=DeliveryState.WAITING)) == []
    assert await states(DeliveryFilter(url=url)) == ["DELIVERED"] * 3
    third = microseconds(times[2])
    assert len(await states(DeliveryFilter(created_after=third))) == 3
    assert len(await states(DeliveryFilter(created_before=third))) == 3


async def test_pages_follow_one_another_without_gaps(webhooks: WebhookCell) -> None:
    asked = overview(webhooks)
    async with Receiver() as receiver, couriers(webhooks):
        tasks = [await webhooks.cancelled(receiver.url) for _ in range(7)]
        for task in tasks:
            await webhooks.settled(task)
    found, token = list[str](), ""
    while True:
        page = await asked.page(OWNER, ANY, size=3, token=token)
        found += [record.task_id for record in page.deliveries]
        token = page.next_token
        if not token:
            break
    assert found == [task.id for task in reversed(tasks)]
    first = await asked.page(OWNER, ANY, size=3, token="")
    for wanted in (DeliveryFilter(url="https://a"), DeliveryFilter(state=DeliveryState.DEAD)):
        with pytest.raises(PageTokenInvalid):
            await asked.page(OWNER, wanted, size=3, token=first.next_token)


async def test_another_project_sees_replays_and_learns_nothing(webhooks: WebhookCell) -> None:
    asked = overview(webhooks)
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        record = await webhooks.settled(task)
    silent = await webhooks.cancelled("")
    assert (await asked.page(STRANGER, ANY, size=9, token="")).deliveries == ()
    for task_id in (task.id, silent.id, NOWHERE):
        with pytest.raises(TaskNotFound):
            await asked.page_of_task(STRANGER, task_id, ANY, size=9, token="")
        with pytest.raises(TaskNotFound):
            await asked.replay_task(STRANGER, task_id, from_sequence=0, limit=9, token="")
    for delivery_id in (record.id, "e_t_3", "nonsense", "__", f"e_{NOWHERE}_1"):
        with pytest.raises(DeliveryNotFound):
            await asked.replay_one(STRANGER, delivery_id)
    with pytest.raises(ProjectNotFound):
        await asked.page(STRANGER, DeliveryFilter(project="default"), size=9, token="")
    with pytest.raises(ProjectNotFound):
        await asked.replay_matching(STRANGER, DeliveryFilter(project="default"), limit=9, token="")
    assert (await asked.page_of_task(OWNER, silent.id, ANY, size=9, token="")).deliveries == ()


async def test_without_the_role_nothing_is_shown_or_replayed(webhooks: WebhookCell) -> None:
    asked = overview(webhooks)
    task = await webhooks.cancelled("https://a.example/")
    for call in (
        asked.page(READER, ANY, size=9, token=""),
        asked.page_of_task(READER, task.id, ANY, size=9, token=""),
        asked.replay_one(READER, "e_t_3"),
        asked.replay_task(READER, task.id, from_sequence=0, limit=9, token=""),
        asked.replay_matching(READER, ANY, limit=9, token=""),
    ):
        with pytest.raises(RoleMissing):
            await call
