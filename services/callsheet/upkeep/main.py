"""The composition root of upkeep."""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from callsheet.ledger.catalog import task_types
from callsheet.ledger.graph_progress import READER as GRAPH_READER
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.performance import Counters
from callsheet.ledger.redis_cell import redis_cell
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.lifecycle import announce_ready, process_name, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import check_ledger_server, connect
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings, load_settings_or_exit
from callsheet.upkeep.artifact_sweeper import ArtifactSweeper
from callsheet.upkeep.duty import Duty
from callsheet.upkeep.epoch_watch import EpochWatch
from callsheet.upkeep.expirer import Expirer
from callsheet.upkeep.hold_off import HoldOff
from callsheet.upkeep.log_trimmer import KEPT, LogTrimmer
from callsheet.upkeep.mark import MarkFile
from callsheet.upkeep.owed import OwedMedia, OwedWebhooks
from callsheet.upkeep.performance_tally import PerformanceTally
from callsheet.upkeep.pruner import Pruner
from callsheet.upkeep.rescuer import Rescuer
from callsheet.upkeep.scheduler import Scheduler
from callsheet.upkeep.upkeep import Upkeep

#: One for each duty, the role and the odd one out.
CONNECTIONS: Final = 12
#: How long a command is repeated before a duty is told that the ledger is away.
PATIENCE: Final = timedelta(seconds=1)
DRAIN: Final = timedelta(seconds=10)
#: How much longer than its schedule the registration of media may take: waits are spread.
MEDIA_SPREAD: Final = 1.25
_CONNECT_PAUSE: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def main() -> int:
    """Run until told to stop; return the process's exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="upkeep")
    if settings.redis_url is None:
        sys.stderr.write("REDIS_URL: upkeep needs the ledger's Redis; `callsheetd up` names it\n")
        return EXIT_SETTINGS_REFUSED
    url = settings.redis_url

    async def run(stop: asyncio.Event) -> None:
        async with connect(url, max_connections=CONNECTIONS, client_name="upkeep") as redis:
            if await _is_reached(redis, stop):
                announce_ready()
                await compose(settings, redis).run(stop)

    return run_until_signalled(run, drain_timeout=DRAIN)


def compose(settings: Settings, redis: Redis) -> Upkeep:
    """Return upkeep with all its duties."""
    cell = redis_cell(redis, settings.cell, patience=PATIENCE)
    connection, keys, store, log = cell.connection, cell.keys, cell.store, cell.log
    writer = cell.writer(retention=settings.retention)
    hold_off = HoldOff(settings.lease)
    mark = MarkFile(settings.state_dir / "upkeep" / f"{settings.cell}.json")
    duties: list[Duty] = [
        Rescuer(writer, log, task_types(), hold_off=hold_off, lease=settings.lease),
        Scheduler(writer),
        Expirer(writer),
        Pruner(
            writer,
            OwedWebhooks(KeptDeliveries(connection, keys), log),
            OwedMedia(
                MediaWork(connection, keys),
                patience=settings.retention
                + MEDIA_SPREAD * sum(settings.payload_retries, timedelta(0)),
            ),
        ),
        LogTrimmer(log, store, giving_way={GRAPH_READER: settings.brain_backlog}, kept=KEPT),
        PerformanceTally(
            store,
            log,
            cell.registry,
            Counters(connection, keys),
            keys=keys,
            catalog=task_types(),
        ),
        EpochWatch(log, cell.ids, mark),
        ArtifactSweeper(
            store,
            artifact_store(settings),
            cell=settings.cell,
            identity=log.identity,
            clock=lambda: datetime.now(UTC),
            uploads_for=settings.retention,
        ),
    ]
    return Upkeep(cell.registry, duties, holder=process_name(), on_interruption=hold_off.interrupt)


async def _is_reached(redis: Redis, stop: asyncio.Event) -> bool:
    """Wait for a server that can hold the ledger; False: told to stop. Raises RedisUnfit."""
    told_at = float("-inf")
    while not stop.is_set():
        try:
            await check_ledger_server(redis)
        except (RedisError, OSError) as error:
            if time.monotonic() - told_at > 30:
                _log.warning("ledger_unavailable", reason=str(error))
                told_at = time.monotonic()
            try:
                async with asyncio.timeout(_CONNECT_PAUSE.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            return True
    return False
