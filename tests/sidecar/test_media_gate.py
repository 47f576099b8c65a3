"""The gate: a webhook waits for media, but never too long, and what it says is decided once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger import machine
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.ledger.media_work import ClaimedMedia
from callsheet.ledger.model import RegisteredMedia, Task
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.tailer import READER
from tests.support.eventually import eventually
from tests.support.filming import filmed
from tests.support.sidecars import WebhookCell, running, tailer

URL = "https://a.example/hook"
HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=50)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


@asynccontextmanager
async def tailing(
    cell: WebhookCell, *, wait: timedelta | None, holder: str = "one"
) -> AsyncGenerator[asyncio.Event]:
    """Run a tailer with a gate; yield what is set when there is media work."""
    added = asyncio.Event()
    gate = MediaGate(cell.media, cell.plane.store, wait=wait, added=added.set)
    async with running(tailer(cell, holder=holder, media=gate)):
        yield added


async def registered(cell: WebhookCell, task: Task, *documents: str) -> Task:
    """Note media of the task, as a registrar does."""
    media = tuple(RegisteredMedia(f"file:///{document}", document) for document in documents)
    return await cell.plane.writer.change(
        await cell.plane.writer.read(task.id), lambda task: machine.register_media(task, media)
    )


async def delivered(cell: WebhookCell, task: Task) -> DeliveryRecord:
    """Return the task's one delivery once it is recorded."""
    (record,) = await eventually(lambda: cell.of_task(task.id))
    return record


async def worked(cell: WebhookCell) -> ClaimedMedia:
    """Return the one task that is to be registered."""

    async def claimed() -> tuple[ClaimedMedia, ...]:
        return (await cell.media.claim(limit=9, lease=HOUR)).tasks

    (one,) = await eventually(claimed)
    return one


async def caught_up(cell: WebhookCell) -> None:
    """Return when all that is in the log has been read."""
    end = await cell.plane.log.end()

    async def is_there() -> bool:
        return (await cell.plane.log.cursors()).get(READER) == end

    await eventually(is_there)


async def test_a_webhook_waits_for_the_media_and_then_tells_of_them(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=HOUR) as added:
        task = await filmed(webhooks, store, url=URL)
        await added.wait()
        assert (await worked(webhooks)).task_id == task.id
        await caught_up(webhooks)
        assert await webhooks.of_task(task.id) == []
        noted = await registered(webhooks, task, "7")
        record = await delivered(webhooks, task)
        assert (record.sequence, record.as_of) == (task.sequence, noted.sequence)
        await eventually(lambda: nothing_waits(webhooks, task))


async def nothing_waits(cell: WebhookCell, task: Task) -> bool:
    return not await cell.media.held([task.id])


async def test_a_webhook_goes_without_media_when_its_time_has_come_and_never_changes(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=MOMENT):
        task = await filmed(webhooks, store, url=URL)
        record = await delivered(webhooks, task)
        assert (record.sequence, record.as_of) == (task.sequence, 0)
        await eventually(lambda: nothing_waits(webhooks, task))
        await registered(webhooks, task, "7")
        await caught_up(webhooks)
        assert await webhooks.of_task(task.id) == [record]


async def test_a_tailer_that_dies_leaves_the_wait_to_the_next_one(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=HOUR, holder="one"):
        noted_later = await filmed(webhooks, store, url=URL)
        await worked(webhooks)
        await caught_up(webhooks)
    noted = await registered(webhooks, noted_later, "7")
    async with tailing(webhooks, wait=HOUR, holder="two"):
        assert (await delivered(webhooks, noted_later)).as_of == noted.sequence


async def test_what_another_tailer_let_wait_is_let_go_in_its_time_even_where_nothing_waits(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """The settings may have changed: nobody registers media any more."""
    async with tailing(webhooks, wait=timedelta(seconds=1), holder="one"):
        task = await filmed(webhooks, store, url=URL)
        await worked(webhooks)
        await caught_up(webhooks)
    async with tailing(webhooks, wait=None, holder="two"):
        assert (await delivered(webhooks, task)).as_of == 0


async def test_a_step_that_is_made_again_after_a_crash_decides_nothing_anew(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """The cursor had not moved yet: the same facts come again, with what has followed since."""
    log = webhooks.plane.log
    before = await log.end()
    async with tailing(webhooks, wait=MOMENT, holder="one"):
        task = await filmed(webhooks, store, url=URL)
        record = await delivered(webhooks, task)
    await registered(webhooks, task, "7")
    await log.save_cursor(READER, before)
    async with tailing(webhooks, wait=HOUR, holder="two"):
        await caught_up(webhooks)
        assert await webhooks.of_task(task.id) == [record]


async def test_media_that_were_registered_before_the_webhook_was_thought_of_are_told(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    task = await filmed(webhooks, store, url=URL)
    noted = await registered(webhooks, task, "7")
    async with tailing(webhooks, wait=HOUR):
        assert (await delivered(webhooks, task)).as_of == noted.sequence


async def test_without_a_payload_nothing_waits_and_nothing_is_to_be_registered(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=None):
        task = await filmed(webhooks, store, url=URL)
        assert (await delivered(webhooks, task)).as_of == 0
    assert (await webhooks.media.claim(limit=9, lease=HOUR)).tasks == ()


async def test_without_a_wait_media_are_registered_all_the_same(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=timedelta(0)):
        task = await filmed(webhooks, store, url=URL)
        assert (await delivered(webhooks, task)).as_of == 0
        assert (await worked(webhooks)).task_id == task.id


async def test_only_the_end_of_a_task_with_artifacts_waits(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with tailing(webhooks, wait=HOUR):
        silent = await filmed(webhooks, store)
        plain = await webhooks.succeeded(URL)
        failed = await webhooks.failed(URL)
        for task in (plain, failed):
            assert (await delivered(webhooks, task)).as_of == 0
        assert (await worked(webhooks)).task_id == silent.id
    assert (await webhooks.media.released(limit=9)).next_due is None


async def test_a_log_that_was_trimmed_too_far_loses_no_media(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    log = webhooks.plane.log
    noted = await filmed(webhooks, store, url=URL)
    after = await registered(webhooks, noted, "7")
    owed = await filmed(webhooks, store)
    await log.trim(await log.end())
    async with tailing(webhooks, wait=HOUR):
        assert (await delivered(webhooks, noted)).as_of == after.sequence
        assert (await worked(webhooks)).task_id == owed.id


async def test_a_task_that_is_gone_holds_up_nobody(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """Only a sidecar that was away for the whole retention sees this."""
    async with tailing(webhooks, wait=timedelta(seconds=1), holder="one"):
        gone = await filmed(webhooks, store, url=URL)
        await worked(webhooks)
        await caught_up(webhooks)
    await webhooks.redis.delete(webhooks.plane.keys.task(gone.id))
    async with tailing(webhooks, wait=timedelta(seconds=1), holder="two"):
        await eventually(lambda: nothing_waits(webhooks, gone))
        other = await filmed(webhooks, store, url=URL)
        await delivered(webhooks, other)
