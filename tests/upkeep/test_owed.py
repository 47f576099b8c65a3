"""A task is not pruned while its webhook is owed, or its media."""

from datetime import timedelta

from redis.asyncio import Redis

from callsheet.ledger.index import OUTLIVES, Move, Op, prune_moves
from callsheet.ledger.instants import span
from callsheet.ledger.model import Task
from callsheet.ledger.store import Commit
from callsheet.upkeep.owed import OwedMedia, OwedWebhooks
from callsheet.upkeep.pruner import OWED_REST, Pruner
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER
from tests.support.reusing import image, succeed
from tests.support.sidecars import WebhookCell, running, tailer, webhook_cell

URL = "https://a.example/hook"


async def past_retention(cell: WebhookCell, task: Task) -> Task:
    due = (Move(Op.ADD, cell.plane.keys.final, task.id, 0),)
    await cell.plane.store.commit([Commit(task.id, expected=task.sequence, moves=due)])
    return task


async def pruned(
    cell: WebhookCell, *tasks: Task, patience: timedelta = timedelta(days=9)
) -> list[bool]:
    """Prune once; return which of the tasks are gone."""
    owed = OwedWebhooks(cell.kept, cell.plane.log)
    media = OwedMedia(cell.media, patience=patience)
    await Pruner(cell.plane.writer, owed, media).run_once()
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
    line = {"default/https://a.example:443/hook": 1}
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


async def reused_once(webhooks: WebhookCell) -> tuple[Task, Task]:
    """Return a source, and a task of its output whose webhook waits; past their retention."""
    plane = webhooks.plane
    source = await succeed(plane, (await plane.ledger.submit(OWNER, image())).id)
    reused = await plane.ledger.submit(OWNER, image(callback_url=URL))
    assert reused.reused_from == source.id
    await read_by_a_sidecar(webhooks)
    return await past_retention(webhooks, source), await past_retention(webhooks, reused)


async def test_the_source_of_an_output_stays_with_the_task_that_is_owed(
    redis: Redis, cell: str
) -> None:
    webhooks = webhook_cell(redis, cell)
    final, store = webhooks.plane.keys.final, webhooks.plane.store
    source, reused = await reused_once(webhooks)
    # Given both at once past their retention, then both stay, the source longer
    assert await pruned(webhooks, source, reused) == [False, False]
    scores = dict(await store.members(final, limit=9))
    assert 0 < scores[source.id] - scores[reused.id] <= OUTLIVES
    # And a source that is kept longer anyway, because of another use, is left at that
    later = Move(Op.ADD_AFTER, final, source.id, span(timedelta(days=9)))
    await store.commit([Commit(source.id, expected=source.sequence, moves=(later,))])
    before = dict(await store.members(final, limit=9))[source.id]
    await past_retention(webhooks, reused)
    assert await pruned(webhooks, source, reused) == [False, False]
    assert dict(await store.members(final, limit=9))[source.id] == before


async def test_a_source_that_is_gone_does_not_hold_up_the_task_that_is_owed(
    redis: Redis, cell: str
) -> None:
    webhooks = webhook_cell(redis, cell)
    source, reused = await reused_once(webhooks)
    moves = prune_moves(webhooks.plane.keys, source)
    await webhooks.plane.store.commit([Commit(source.id, expected=source.sequence, moves=moves)])
    assert await pruned(webhooks, source, reused) == [True, False]


async def test_a_task_stays_while_its_media_are_still_to_be_registered(
    redis: Redis, cell: str
) -> None:
    webhooks = webhook_cell(redis, cell)
    owed = await past_retention(webhooks, await webhooks.succeeded(""))
    other = await past_retention(webhooks, await webhooks.succeeded(""))
    await webhooks.media.add({owed.id: None})
    assert await pruned(webhooks, owed, other) == [False, True]
    # And no longer once it was registered
    [claimed] = (await webhooks.media.claim(limit=9, lease=timedelta(minutes=1))).tasks
    await webhooks.media.settle(claimed, None)
    await past_retention(webhooks, owed)
    assert await pruned(webhooks, owed) == [True]


async def test_a_task_whose_media_nobody_registers_any_more_is_not_kept_for_ever(
    redis: Redis, cell: str
) -> None:
    webhooks = webhook_cell(redis, cell)
    owed = await past_retention(webhooks, await webhooks.succeeded(""))
    await webhooks.media.add({owed.id: None})
    assert await pruned(webhooks, owed, patience=timedelta(0)) == [True]
