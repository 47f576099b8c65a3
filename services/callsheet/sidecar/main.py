"""Puts a sidecar together from the settings, and runs it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from redis.asyncio import Redis

from callsheet.ledger.deliveries import Deliveries
from callsheet.ledger.redis_cell import redis_cell
from callsheet.ledger.webhook_registry import WebhookRegistry
from callsheet.runtime.lifecycle import announce_ready, process_name, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import connect_ledger
from callsheet.runtime.secrets import load_master_key
from callsheet.runtime.settings import Settings, load_settings_or_exit
from callsheet.sidecar.courier import Courier, Terms
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.dialling import Dialler, Resolver, public_trust
from callsheet.sidecar.media_part import MediaPart
from callsheet.sidecar.posting import Poster
from callsheet.sidecar.sending import Sender
from callsheet.sidecar.tailer import Tailer

#: Ended deliveries outlive their tasks, so that nothing is ever delivered anew.
_SHORTEST_RETENTION: Final = timedelta(days=30)
#: Tailer, claims, and outcomes that are written at the same time and so share an fsync.
_CONNECTIONS: Final = 24


def main() -> int:
    """Run a sidecar until SIGTERM; return the exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="sidecar")
    return run_until_signalled(
        lambda stop: _work(settings, stop), drain_timeout=settings.drain_timeout
    )


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    if settings.redis_url is None:
        raise SystemExit("REDIS_URL is not set: start the sidecar with `callsheetd up`, or set it")
    # A part of a try's time, so that who waits for us in vain is never told that time ran out.
    resolver = Resolver(patience=settings.webhook_time_limit / 4)
    redis = await connect_ledger(
        settings.redis_url, max_connections=_CONNECTIONS, client_name="callsheet-sidecar"
    )
    try:
        dialler = Dialler(
            resolver,
            allow_loopback=settings.webhook_allow_private,
            trust=public_trust(),
        )
        async with Poster(dialler, time_limit=settings.webhook_time_limit) as poster:
            await _run(settings, stop, redis, poster)
    finally:
        resolver.close()
        await redis.aclose()


async def _run(settings: Settings, stop: asyncio.Event, redis: Redis, poster: Poster) -> None:
    cell = redis_cell(redis, settings.cell)
    deliveries = Deliveries(cell.connection, cell.keys)
    registry = WebhookRegistry(cell.connection, cell.keys)
    credentials = Credentials(registry, master_key=load_master_key(settings))
    sender = Sender(poster, credentials, allow_http=settings.webhook_allow_http)
    terms = Terms(
        schedule=settings.webhook_retries,
        lease=2 * settings.webhook_time_limit,
        retention=max(settings.retention, _SHORTEST_RETENTION),
    )
    courier = Courier(deliveries, sender, credentials, terms=terms, jitter=cell.ids.jitter)
    media = MediaPart(settings, cell)
    tailer = Tailer(
        log=cell.log,
        store=cell.store,
        registry=cell.registry,
        deliveries=deliveries,
        keys=cell.keys,
        holder=process_name(),
        hold=settings.lease,
        media=media.gate,
        recorded=courier.wake,
    )
    announce_ready()
    async with asyncio.TaskGroup() as group:
        group.create_task(tailer.run(stop))
        group.create_task(courier.run(stop))
        group.create_task(media.run(stop))
        group.create_task(_run_brain(settings, stop))


async def _run_brain(settings: Settings, stop: asyncio.Event) -> None:
    if settings.brain_ws_url is not None:
        from callsheet.sidecar.brain_part import run_brain_part  # noqa: PLC0415  # its protocol takes a second or two to load: who has no brain starts without it

        await run_brain_part(settings, stop, now=lambda: datetime.now(UTC))
