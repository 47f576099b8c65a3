"""Puts a worker together from the settings, and runs it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis

from callsheet.broker.chooser import ChoiceRules
from callsheet.broker.slots import Slots
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import ResourceClass, TaskType, queues, task_types, with_waits
from callsheet.ledger.errors import QueueNotFound
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.redis_cell import redis_cell
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.lifecycle import announce_ready, process_name, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import connect_ledger
from callsheet.runtime.settings import Settings, load_settings_or_exit, variable_of
from callsheet.runtime.toml_table import CatalogueInvalid
from callsheet.worker.context_source import ContextSource
from callsheet.worker.devices import device_named
from callsheet.worker.ledger_clock import LedgerClock
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.warming import compiles_ahead, ready_within, start_ahead
from callsheet.worker.worker import LedgerWorker, Shape

#: How long outcomes are kept in memory while the ledger is away. Attempts go on meanwhile.
PATIENCE: Final = timedelta(hours=1)
#: One for each waiting claimer and the control list, the lane, renewals, signals, and some.
_CONNECTIONS: Final = 16
#: How many tasks run together on a device, unless it is set.
_BUCKET: Final = 8
#: What a worker is told and a runner is not.
_SECRETS: Final = frozenset(
    map(variable_of, ("redis_url", "webhook_master_key", "payload_api_key", "brain_token"))
)


def main() -> int:
    """Run a worker until SIGTERM; return the exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="worker")
    return run_until_signalled(
        lambda stop: _work(settings, stop), drain_timeout=settings.drain_timeout
    )


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    if settings.redis_url is None:
        raise SystemExit("REDIS_URL is not set: start the worker with `callsheetd up`, or set it")
    redis = await connect_ledger(
        settings.redis_url, max_connections=_CONNECTIONS, client_name="callsheet-worker"
    )
    try:
        async with _context_source(settings) as source:
            worker, shape = await _assembled(settings, redis, source)
            warming = [
                start_ahead(
                    host,
                    shape.slots[kind],
                    holds_slot=compiles_ahead(settings, device=host.device),
                )
                for kind, hosts in shape.hosts.items()
                for host in hosts
            ]
            announce_ready()
            await worker.run(stop)
            await asyncio.gather(*warming, return_exceptions=True)
    finally:
        await redis.aclose()


@asynccontextmanager
async def _context_source(settings: Settings) -> AsyncGenerator[ContextSource | None]:
    """Yield what asks the brain, connected as soon as it can be; None: there is none to ask."""
    if settings.brain_ws_url is None or not settings.context_budget:
        yield None
        return
    # Its libraries take a second to import, and a worker without a brain needs none.
    from callsheet.runtime.brain import brain_of

    brain = brain_of(settings, jitter=RandomIds().jitter, time_limit=settings.context_budget)
    if brain is None:
        yield None
        return
    async with brain:
        yield ContextSource(brain, budget=settings.context_budget)


async def _assembled(
    settings: Settings, redis: Redis, context_source: ContextSource | None
) -> tuple[LedgerWorker, Shape]:
    cell = redis_cell(redis, settings.cell, patience=PATIENCE)
    attempts = Attempts(
        cell.writer(retention=settings.retention),
        cell.log,
        _task_types(settings),
        worker=process_name(),
        lease=settings.lease,
        workers=KnownWorkers(cell.registry),
    )
    # A claim of nothing is the cheapest question that tells the ledger's time.
    looked = await attempts.claim(count=0, queues=(), candidates=(), device="")
    shape = _shape(settings)
    clock = LedgerClock(looked.time)
    worker = LedgerWorker(
        attempts,
        cell.store,
        cell.registry,
        catalog=task_types(),
        shape=shape,
        clock=clock,
        context_source=context_source,
    )
    return worker, shape


def _shape(settings: Settings) -> Shape:
    device = device_named(settings.device)
    served = _served(settings.worker_queues)
    totals = {
        ResourceClass.WORKER: settings.worker_slots,
        ResourceClass.CPU: settings.cpu_runners,
        ResourceClass.DEVICE: 1,
    }
    hosts = {
        kind: [
            RunnerHost(
                on,
                environment=_without_secrets(),
                ready_within=ready_within(settings, device=on),
                # Most of what needs no device needs no model: seconds and half a GiB are spared.
                imports_ahead=kind is ResourceClass.DEVICE,
            )
            for _ in range(totals[kind])
        ]
        for kind, on in ((ResourceClass.CPU, "cpu"), (ResourceClass.DEVICE, device))
        if kind in served
    }
    return Shape(
        queues=served,
        slots={kind: Slots(totals[kind]) for kind in served},
        hosts=hosts,
        device=device,
        memory_limit_bytes=settings.runner_memory_limit_bytes,
        drain_timeout=settings.drain_timeout,
        choice=_choice(settings, device=device),
    )


def _choice(settings: Settings, *, device: str) -> ChoiceRules:
    try:
        catalogue = load_catalogue(settings.models_file)
    except CatalogueInvalid as error:
        raise SystemExit(str(error)) from error
    bucket = settings.batch_bucket
    if bucket is None:
        # A CPU takes as long for eight as for one eight times.
        bucket = 1 if device == "cpu" else _BUCKET
    return ChoiceRules(catalogue, bucket, settings.overtake_limit)


def _task_types(settings: Settings) -> Mapping[str, TaskType]:
    """Return the task types, with the waits between attempts that are set."""
    try:
        return with_waits(settings.waits_by_queue)
    except QueueNotFound as error:
        raise SystemExit(f"{variable_of('retry_waits')}: {error}") from error


def _without_secrets() -> Mapping[str, str]:
    """What runs models, and whatever code they bring, has no business with the ledger
    and with the services that the sidecar speaks to.
    """
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}


def _served(wanted: tuple[str, ...]) -> Mapping[ResourceClass, tuple[str, ...]]:
    """Return the wanted queues by resource class, in the order in which they are wanted."""
    known = queues()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"CALLSHEET_WORKER_QUEUES: there is no queue {', '.join(unknown)}")
    served: dict[ResourceClass, tuple[str, ...]] = {}
    for name in wanted or tuple(known):
        served[known[name]] = (*served.get(known[name], ()), name)
    return served
