"""A task is not pruned while its webhook is owed."""

from datetime import timedelta

from redis.asyncio import Redis

from callsheet.ledger.index import Move, Op
from callsheet.ledger.model import Task
from callsheet.ledger.store import Commit
from callsheet.upkeep.owed import OwedWebhooks
from callsheet.upkeep.pruner import OWED_REST, Pruner
from tests.support.eventually import eventually
from tests.support.sidecars import WebhookCell, running, tailer, webhook_cell

URL = "https://a.example/hook"


async def past_retention(cell: WebhookCell, task: Task) -> Task:
    due = (Move(Op.ADD, cell.plane.keys.final, task.id, 0),)
    await cell.plane.store.commit([Commit(task.id, expected=task.sequence, moves=due)])
    return task


async def pruned(cell: WebhookCell, *tasks: Task) -> list[bool]:
    """Prune once; return which of the tasks are gone."""
    owed = OwedWebhooks(cell.kept, cell.plane.log)
    await Pruner(cell.plane.writer, owed).run_once()
    found = await cell.plane.store.read([task.id for task in tasks])
    return [stored is None for stored in found]


async def read_by_a_sidecar(cell: WebhookCell) -> None:
    end = await cell.plane.log.end()
    async with running(tailer(cell)):

        async def moved() -> bool:
            return (await cell.plane.log.cursors()).get("sidecar") == end

        await eventually(moved)


async def test_a_task_stays_until_its_webhook_is_delivered(redis: Redis, cell: str) -> None:
    webhooks = webhook_cell(redis, cell)
    told = await past_retention(webhooks, await webhooks.cancelled(URL))
    await read_by_a_sidecar(webhooks)
    assert await pruned(webhooks, told) == [False]
    line = {"default/https://a.example:443": 1}
    [head] = (await webhooks.deliveries.claim(line, lease=timedelta(minutes=1))).deliveries
    await webhooks.deliveries.settle(
        head, head.record, retry_delay=None, retention=timedelta(days=1)
    )
    # It is looked at again after a while
    scores = dict(await webhooks.plane.store.members(webhooks.plane.keys.final, limit=9))
    now, _ = await webhooks.plane.store.due(webhooks.plane.keys.final, limit=0)
    rest = timedelta(microseconds=scores[told.id] - now)
    assert OWED_REST - timedelta(minutes=1) < rest <= OWED_REST
    await past_retention(webhooks, told)
    assert await pruned(webhooks, told) == [True]


async def test_a_task_stays_until_a_sidecar_has_read_of_its_end(redis: Redis, cell: str) -> None:
    webhooks = webhook_cell(redis, cell)
    await webhooks.plane.log.save_cursor("sidecar", "1-0")
    unread = await past_retention(webhooks, await webhooks.cancelled(URL))
    silent = await past_retention(webhooks, await webhooks.cancelled(""))
    assert await pruned(webhooks, unread, silent) == [False, True]


async def test_where_no_sidecar_ever_ran_nothing_is_kept(redis: Redis, cell: str) -> None:
    webhooks = webhook_cell(redis, cell)
    told = await past_retention(webhooks, await webhooks.cancelled(URL))
    assert await pruned(webhooks, told) == [True]


async def test_a_cursor_that_cannot_be_read_keeps_every_task_that_is_owed(
    redis: Redis, cell: str
) -> None:
    webhooks = webhook_cell(redis, cell)
    await webhooks.plane.log.save_cursor("sidecar", "nonsense")
    told = await past_retention(webhooks, await webhooks.cancelled(URL))
    assert await pruned(webhooks, told) == [False]
