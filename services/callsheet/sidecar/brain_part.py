"""The sidecar's part for the brain, put together from the settings."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from callsheet.ledger.graph_progress import GraphProgress
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.redis_cell import redis_cell
from callsheet.runtime.brain import brain_of
from callsheet.runtime.lifecycle import process_name
from callsheet.runtime.redis import connect_ledger
from callsheet.runtime.settings import Settings
from callsheet.sidecar.brain_sink import BrainSink
from callsheet.sidecar.brain_source import FactSource

#: Of its own, so that webhooks never wait behind the brain's reads: the log, a read, the role.
_CONNECTIONS: Final = 3


async def run_brain_part(
    settings: Settings, stop: asyncio.Event, *, now: Callable[[], datetime]
) -> None:
    """Tell the brain until told to stop; without a brain return at once. *now* is the clock.

    Raises:
        OSError: CALLSHEET_BRAIN_CA_FILE cannot be read, or is none.
    """
    ids = RandomIds()
    brain = brain_of(settings, jitter=ids.jitter)
    if brain is None or settings.redis_url is None:
        return
    redis = await connect_ledger(
        settings.redis_url, max_connections=_CONNECTIONS, client_name="callsheet-sidecar-brain"
    )
    try:
        cell = redis_cell(redis, settings.cell)
        async with brain:
            sink = BrainSink(
                brain=brain,
                log=cell.log,
                source=FactSource(cell.store, cell.keys),
                progress=GraphProgress(cell.connection, cell.keys),
                registry=cell.registry,
                holder=process_name(),
                hold=settings.lease,
                now=now,
            )
            await sink.run(stop)
    finally:
        await redis.aclose()
