"""The sidecar's part for media, put together from the settings."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from callsheet.ledger.ids import RandomIds
from callsheet.ledger.index import Keys
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_store import RedisStore
from callsheet.ledger.writer import Writer
from callsheet.payload.client import PayloadClient, PayloadPlace
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.settings import Settings
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.media_registrar import Registrar, RegistrarTerms
from callsheet.sidecar.media_uploads import MediaUploads, UploadTerms

#: An upload asks, uploads, and asks what came of it; each search is made up to three times.
_REQUESTS: Final = 7


class MediaPart:
    """What a sidecar does for media: its tailer's gate, and a registrar where it has a Payload."""

    def __init__(self, settings: Settings, connection: RedisConnection, keys: Keys) -> None:
        self._settings = settings
        self._connection = connection
        self._keys = keys
        self._work = MediaWork(connection, keys)
        self._wake: Callable[[], None] | None = None
        is_there = settings.payload_api_url is not None
        self.gate = MediaGate(
            self._work,
            RedisStore(connection, keys),
            wait=settings.media_wait if is_there else None,
            added=self._added,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Register media until told to stop; without a PayloadCMS return at once."""
        settings, ids = self._settings, RandomIds()
        if settings.payload_api_url is None:
            return
        key = settings.payload_api_key
        place = PayloadPlace(
            settings.payload_api_url,
            None if key is None else key.get_secret_value(),
            users=settings.payload_users_collection,
            media=settings.payload_media_collection,
            hash_field=settings.payload_hash_field,
        )
        limit = settings.payload_time_limit
        async with PayloadClient(place, time_limit=limit, jitter=ids.jitter) as payload:
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
            store = RedisStore(self._connection, self._keys)
            registrar = Registrar(
                self._work,
                Writer(store, self._keys, ids, retention=settings.retention),
                uploads,
                terms=RegistrarTerms(
                    schedule=settings.payload_retries,
                    lease=settings.lease,
                    retention=settings.retention,
                ),
                jitter=ids.jitter,
            )
            self._wake = registrar.wake
            await registrar.run(stop)

    def _added(self) -> None:
        if self._wake is not None:
            self._wake()
