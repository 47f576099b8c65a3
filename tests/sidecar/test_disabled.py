"""Endpoints that said they are gone: for how long that is remembered, and of how many."""

from dataclasses import replace
from datetime import timedelta

from callsheet.ledger.delivery_model import DeliveryState
from callsheet.ledger.delivery_outcomes import ClaimedDelivery
from tests.sidecar.test_delivery_queues import NO_TIME, RETENTION, URL, claimed, new, recorded
from tests.support.sidecars import WebhookCell


async def gone(cell: WebhookCell, head: ClaimedDelivery, *, retention: timedelta) -> None:
    """Have the endpoint of a head say that it is gone."""
    record = replace(head.record, state=DeliveryState.DEAD)
    await cell.deliveries.settle(
        head, record, retry_delay=None, retention=retention, answers=True, disables="410"
    )


async def test_that_an_endpoint_is_disabled_is_forgotten_with_its_delivery(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new("old", url=f"{URL}?old"), new("young", url=f"{URL}?young"))
    for head in await claimed(webhooks):
        is_old = head.record.task_id == "old"
        await gone(webhooks, head, retention=NO_TIME if is_old else RETENTION)
    assert len(await webhooks.registry.disabled()) == 2
    await webhooks.deliveries.forget(limit=10)
    [left] = await webhooks.registry.disabled()
    assert left.disabled.url == f"{URL}?young"
    assert await webhooks.registry.enable("default", left.disabled.url)
    listed = webhooks.plane.keys.disabled_endpoints("default")
    assert await webhooks.plane.store.members(listed, limit=9) == []


async def test_of_too_many_disabled_endpoints_the_oldest_gives_way(webhooks: WebhookCell) -> None:
    names = [f"task-{n}" for n in range(1001)]
    await recorded(webhooks, *(new(name, url=f"{URL}?{name}") for name in names))
    heads = {head.record.task_id: head for head in await claimed(webhooks, count=1001)}
    for name in names:
        days = 1 if name == names[7] else 30
        await gone(webhooks, heads[name], retention=timedelta(days=days))
    urls = {each.disabled.url for each in await webhooks.registry.disabled()}
    assert urls == {f"{URL}?{name}" for name in names if name != names[7]}
