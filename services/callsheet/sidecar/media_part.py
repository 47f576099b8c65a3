"""The sidecar's part for media, put together from the settings."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.redis_cell import RedisCell
from callsheet.payload.client import PayloadClient
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.payload import payload_place
from callsheet.runtime.settings import Settings
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.media_registrar import Registrar, RegistrarTerms
from callsheet.sidecar.media_uploads import MediaUploads, UploadTerms

#: An upload asks, uploads, and asks what came of it; each search is made up to three times.
_REQUESTS: Final = 7


class MediaPart:
    """What a sidecar does for media: its tailer's gate, and a registrar where it has a Payload."""

    def __init__(self, settings: Settings, cell: RedisCell) -> None:
        self._settings = settings
        self._cell = cell
        self._work = MediaWork(cell.connection, cell.keys)
        self._wake: Callable[[], None] | None = None
        is_there = settings.payload_api_url is not None
        self.gate = MediaGate(
            self._work,
            cell.store,
            wait=settings.media_wait if is_there else None,
            added=self._added,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Register media until told to stop; without a PayloadCMS return at once."""
        settings, jitter = self._settings, self._cell.ids.jitter
        place = payload_place(settings)
        if place is None:
            return
        limit = settings.payload_time_limit
        async with PayloadClient(place, time_limit=limit, jitter=jitter) as payload:
            uploads = MediaUploads(
                artifact_store(settings),
                payload,
                self._work,
                terms=UploadTerms(
                    lock=_REQUESTS * limit + timedelta(minutes=1),
                    settling=limit,
                    largest=settings.payload_largest_bytes,
                ),
            )
            registrar = Registrar(
                self._work,
                self._cell.writer(retention=settings.retention),
                uploads,
                terms=RegistrarTerms(
                    schedule=settings.payload_retries,
                    lease=settings.lease,
                    retention=settings.retention,
                ),
                jitter=jitter,
            )
            self._wake = registrar.wake
            await registrar.run(stop)

    def _added(self) -> None:
        if self._wake is not None:
            self._wake()
