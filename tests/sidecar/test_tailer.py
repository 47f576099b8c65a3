"""The tailer: every final fact becomes one delivery, whoever tails and however often they die."""

from datetime import timedelta

from structlog.testing import capture_logs

from callsheet.ledger.index import prune_moves
from callsheet.ledger.model import Task
from callsheet.ledger.store import Commit
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, ping
from tests.support.receiver import Receiver
from tests.support.sidecars import WebhookCell, couriers, running, tailer

URL = "https://a.example/hook"


async def recorded(cell: WebhookCell, *task_ids: str) -> list[list[int]]:
    """Wait until each task has a delivery; return the sequences of each."""
    found: list[list[int]] = []

    async def complete() -> bool:
        found.clear()
        for task_id in task_ids:
            records = await cell.of_task(task_id)
            found.append([record.sequence for record in records])
        return all(found)

    await eventually(complete)
    return found


async def test_every_final_fact_becomes_a_delivery(webhooks: WebhookCell) -> None:
    async with running(tailer(webhooks)):
        succeeded = await webhooks.succeeded(URL)
        failed = await webhooks.failed(URL)
        cancelled = await webhooks.cancelled(URL)
        ids = (succeeded.id, failed.id, cancelled.id)
        assert await recorded(webhooks, *ids) == [[3], [3], [2]]


async def test_a_task_without_a_callback_has_no_delivery(webhooks: WebhookCell) -> None:
    silent = await webhooks.plane.ledger.submit(OWNER, ping())
    await webhooks.plane.ledger.cancel(OWNER, silent.id, reason="")
    told = await webhooks.cancelled(URL)
    async with running(tailer(webhooks)):
        await recorded(webhooks, told.id)
    assert await webhooks.of_task(silent.id) == []


async def test_a_task_that_is_not_final_has_no_delivery(webhooks: WebhookCell) -> None:
    running_task = await webhooks.started(await webhooks.submitted(URL))
    told = await webhooks.cancelled(URL)
    async with running(tailer(webhooks)):
        await recorded(webhooks, told.id)
    assert await webhooks.of_task(running_task.id) == []


async def test_a_tailer_goes_on_where_another_one_stopped(webhooks: WebhookCell) -> None:
    first = await webhooks.cancelled(URL)
    async with running(tailer(webhooks, holder="one")):
        await recorded(webhooks, first.id)
    second = await webhooks.cancelled(URL)
    async with running(tailer(webhooks, holder="two")):
        await recorded(webhooks, second.id)
    due = await webhooks.deliveries.claim(
        {"default/https://a.example:443/hook": 9}, lease=timedelta(hours=1)
    )
    assert sorted(head.record.task_id for head in due.deliveries) == sorted([first.id, second.id])


async def test_one_tails_at_a_time_and_the_other_takes_over(webhooks: WebhookCell) -> None:
    """Both run; whoever holds the role records, and each fact is recorded once."""
    one, two = (tailer(webhooks, holder=name, hold_seconds=0.3) for name in ("one", "two"))
    async with running(two):
        async with running(one):
            before = await webhooks.cancelled(URL)
            await recorded(webhooks, before.id)
        after = await webhooks.cancelled(URL)
        await recorded(webhooks, after.id)


async def test_a_tailer_that_was_taken_for_dead_is_fenced(webhooks: WebhookCell) -> None:
    registry, log = webhooks.plane.registry, webhooks.plane.log
    with capture_logs() as logged:
        async with running(tailer(webhooks, holder="one", hold_seconds=60)):
            first = await webhooks.cancelled(URL)
            await recorded(webhooks, first.id)
            # Given another one that takes the role and moves on, while this one believes in it
            await registry.release("sidecar-tailer", "one")
            assert await registry.hold("sidecar-tailer", "two", duration=timedelta(seconds=60))
            await log.save_cursor("sidecar", "9999999999999-0")
            # When it reads on
            second = await webhooks.cancelled(URL)

            async def fenced() -> bool:
                return "tailer_fenced" in {line["event"] for line in logged}

            await eventually(fenced)
    # Then it has recorded nothing of what is the other one's, and moved no cursor
    assert await webhooks.of_task(second.id) == []
    assert (await log.cursors())["sidecar"] == "9999999999999-0"


async def test_what_was_trimmed_before_it_was_read_is_found_by_the_index(
    webhooks: WebhookCell,
) -> None:
    # Given a log that was trimmed while there was no sidecar
    early = [await webhooks.cancelled(URL) for _ in range(3)]
    done = await webhooks.succeeded(URL)
    log = webhooks.plane.log
    await log.trim(await log.end())
    # When one starts, then nothing is missing, and the log is read on from its end
    async with running(tailer(webhooks)):
        await recorded(webhooks, done.id, *(task.id for task in early))
        late = await webhooks.cancelled(URL)
        await recorded(webhooks, late.id)


async def test_catching_up_delivers_nothing_anew(webhooks: WebhookCell) -> None:
    task = await webhooks.cancelled(URL)
    async with running(tailer(webhooks, holder="one")):
        await recorded(webhooks, task.id)
    before = await webhooks.of_task(task.id)
    log = webhooks.plane.log
    newest = await webhooks.cancelled(URL)
    await log.trim(await log.end())
    await log.save_cursor("sidecar", "1-0")
    async with running(tailer(webhooks, holder="two")):
        await recorded(webhooks, newest.id)
    assert await webhooks.of_task(task.id) == before


async def test_facts_that_ask_for_nothing_move_the_cursor_too(webhooks: WebhookCell) -> None:
    """Otherwise the log could not be trimmed."""
    log = webhooks.plane.log
    async with running(tailer(webhooks)):
        for _ in range(3):
            await webhooks.plane.ledger.submit(OWNER, ping())
        end = await log.end()

        async def moved() -> bool:
            return (await log.cursors()).get("sidecar") == end

        await eventually(moved)


async def test_a_task_that_comes_back_after_it_was_pruned_is_told_of_too(
    webhooks: WebhookCell,
) -> None:
    """Its request_id was used again: it has the id of the earlier one, and its own webhook."""
    async with Receiver() as receiver, couriers(webhooks):
        tasks: list[Task] = []
        for _ in range(2):
            task = await webhooks.ended(await webhooks.submitted(receiver.url, request_id="mine"))
            await receiver.arrived(len(tasks) + 1)
            await webhooks.settled(task)
            tasks.append(task)
            moves = prune_moves(webhooks.plane.keys, task)
            await webhooks.plane.store.commit([Commit(task.id, task.sequence, moves=moves)])
    first, second = tasks
    assert (first.id, first.create_time < second.create_time) == (second.id, True)
    told = [each.json()["occurred_at"] for each in receiver.received]
    assert len(set(told)) == 2
