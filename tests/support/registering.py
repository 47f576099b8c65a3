"""Registrars of media, put together in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger.model import Task
from callsheet.payload.client import PayloadClient, PayloadPlace
from callsheet.sidecar.media_registrar import Registrar, RegistrarTerms
from callsheet.sidecar.media_uploads import MediaUploads, UploadTerms
from tests.support.faulty_payload import FaultyPayload
from tests.support.sidecars import WebhookCell

MOMENT = timedelta(milliseconds=10)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
TERMS = RegistrarTerms(schedule=(MOMENT,) * 5, lease=30 * SECOND, retention=HOUR)
LARGEST = 100_000
SETTLING = SECOND / 5


@asynccontextmanager
async def registering(
    cell: WebhookCell,
    store: ArtifactStore,
    payload: FaultyPayload,
    *,
    terms: RegistrarTerms = TERMS,
    time_limit: timedelta = 30 * SECOND,
    settling: timedelta = SETTLING,
) -> AsyncGenerator[asyncio.Event]:
    """Run a registrar with that PayloadCMS; yield what stops it."""
    async with PayloadClient(
        PayloadPlace(payload.api), time_limit=time_limit, jitter=lambda: 0.5, waits=(MOMENT,)
    ) as client:
        limits = UploadTerms(lock=HOUR, settling=settling, largest=LARGEST)
        uploads = MediaUploads(store, client, cell.media, terms=limits)
        writer = cell.plane.writer
        made = Registrar(cell.media, writer, uploads, terms=terms, jitter=lambda: 0.5)
        stop = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(made.run(stop))
            yield stop
            stop.set()


async def to_register(cell: WebhookCell, task: Task, *, waits: bool = False) -> Task:
    """Put the task to media work, as a tailer does; its webhook may wait for ever."""
    await cell.media.add({task.id: 4_000_000_000_000_000 if waits else None})
    return task
