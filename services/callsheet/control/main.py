"""Puts the control plane together from the settings, and runs it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from redis.asyncio import Redis
from redis.exceptions import RedisError

from callsheet.control.access_service import AccessService
from callsheet.control.authentication import Authentication
from callsheet.control.callbacks import CallbackRules
from callsheet.control.calls import Calls, ServicePlan
from callsheet.control.digests import SpecDigests
from callsheet.control.health import Health
from callsheet.control.hub import Hub
from callsheet.control.memory_check import MemoryCheck
from callsheet.control.operations_service import OperationsService
from callsheet.control.pulse import Pulse
from callsheet.control.server import AddressTaken, Server
from callsheet.control.submissions import Submissions
from callsheet.control.task_service import LIMITS, TaskService
from callsheet.control.validation import Validation
from callsheet.control.watching import Watching
from callsheet.control.watching_many import WatchingMany
from callsheet.ledger.catalog import task_types
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.delivery_overview import DeliveryOverview
from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.log_readers import LogReaders
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.overview import Overview
from callsheet.ledger.performance import Performance
from callsheet.ledger.redis_cell import RedisCell, redis_cell
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.lifecycle import announce_ready, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import RedisUnfit, check_ledger_server, connect
from callsheet.runtime.settings import Settings, load_settings_or_exit
from callsheet.runtime.toml_table import CatalogueInvalid
from callsheet.v1 import access_service_pb2, operations_service_pb2, task_service_pb2

#: The commit lane, the tail and the ear for signals have one each; the others are for reads.
CONNECTIONS: Final = 32
#: How long a call holds on to a ledger that does not answer; its client knows how to wait.
PATIENCE: Final = timedelta(milliseconds=300)
#: A server that accepts but does not answer is away after this long.
SOCKET_TIMEOUT: Final = timedelta(seconds=3)
#: What stopping keeps of the drain timeout for what comes after the last call.
_CLOSING: Final = timedelta(seconds=1)

#: What keeps it from serving, and is said in a sentence.
_REFUSALS: Final = (AddressTaken, CatalogueInvalid, LedgerUnavailable, RedisError, RedisUnfit)

_TASK_SERVICE: Final = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"]
_OPERATIONS_SERVICE: Final = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]
_ACCESS_SERVICE: Final = access_service_pb2.DESCRIPTOR.services_by_name["AccessService"]
_HEALTH_SERVICE: Final = cast("ServiceDescriptor", health_pb2.DESCRIPTOR.services_by_name["Health"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A running control plane."""

    server: Server
    health: Health
    hub: Hub
    pulse: Pulse
    #: What it does besides answering calls; it ends only with a defect.
    duties: "asyncio.Task[None]"

    async def until(self, stop: asyncio.Event) -> None:
        """Serve until told to stop. Raises what went wrong with the duties, if they end."""
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, self.duties}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self.duties.done():
            await self.duties

    async def drain(self, *, grace: timedelta) -> None:
        """Say that this server ends, send watchers elsewhere, and let other calls end."""
        self.health.shut_down()
        self.hub.shut_down()
        await self.server.stop(grace=grace)


def main() -> int:
    """Run the control plane until SIGTERM; return the exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="control")
    return run_until_signalled(
        lambda stop: _serve(settings, stop), drain_timeout=settings.drain_timeout
    )


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    if settings.redis_url is None:
        raise SystemExit("REDIS_URL is not set: start control with `callsheetd up`, or set it")
    redis = connect(
        settings.redis_url,
        max_connections=CONNECTIONS,
        client_name="callsheet-control",
        socket_timeout=SOCKET_TIMEOUT,
    )
    try:
        await check_ledger_server(redis)
        async with running_control(settings, redis) as control:
            announce_ready()
            await control.until(stop)
            await control.drain(grace=max(NO_TIME, settings.drain_timeout - _CLOSING))
    except _REFUSALS as refusal:
        raise SystemExit(str(refusal)) from refusal
    finally:
        await redis.aclose()


@asynccontextmanager
async def running_control(settings: Settings, redis: Redis) -> AsyncGenerator[Control]:
    """Yield a control plane that serves, and stop it at the end.

    Raises:
        LedgerUnavailable: the ledger does not answer.
        AddressTaken: the server cannot listen at its address.
    """
    cell = redis_cell(redis, settings.cell, patience=PATIENCE)
    pulse = Pulse(cell.log)
    await pulse.look()
    hub = Hub(
        cell.log,
        cell.store,
        pulse,
        watchers=settings.watchers,
        watchers_of_one_project=settings.watchers_of_one_project,
    )
    health = Health(
        [_TASK_SERVICE.full_name, _OPERATIONS_SERVICE.full_name, _ACCESS_SERVICE.full_name]
    )
    health.set(pulse.answers)
    pulse.on_look.append(health.set)
    credentials = Credentials(cell.connection, cell.keys)
    plans = _plans(settings, cell, credentials, hub=hub, pulse=pulse, health=health)
    authentication = Authentication(credentials)
    calls = Calls(authentication)
    server = Server(
        settings.grpc_address,
        [calls.handler(plan) for plan in plans],
        reflected=[plan.descriptor.full_name for plan in plans] if settings.grpc_reflection else (),
    )
    await server.start()
    duties = asyncio.create_task(_do_duties(hub, pulse, authentication))
    try:
        yield Control(server=server, health=health, hub=hub, pulse=pulse, duties=duties)
    finally:
        await server.stop(grace=NO_TIME)
        duties.cancel()
        await asyncio.wait({duties}, timeout=_CLOSING.total_seconds())


async def _do_duties(hub: Hub, pulse: Pulse, authentication: Authentication) -> None:
    async with asyncio.TaskGroup() as duties:
        duties.create_task(authentication.run())
        duties.create_task(hub.run())
        duties.create_task(pulse.run())


def _plans(
    settings: Settings,
    cell: RedisCell,
    credentials: Credentials,
    *,
    hub: Hub,
    pulse: Pulse,
    health: Health,
) -> tuple[ServicePlan, ...]:
    catalog = task_types()
    ledger = Ledger(cell.writer(retention=settings.retention), catalog)
    overview = Overview(cell.store, cell.registry, cell.keys, catalog)
    callbacks = CallbackRules(
        http=settings.webhook_allow_http, loopback=settings.webhook_allow_private
    )
    models = load_catalogue(settings.models_file)
    validation = Validation(catalog, models, callbacks)
    watching = Watching(ledger, hub, pulse)
    watching_many = WatchingMany(ledger, cell.log, hub, pulse)
    memory_check = MemoryCheck(
        catalog, models, KnownWorkers(cell.registry), cache_dir=settings.cache_dir
    )
    submissions = Submissions(ledger, validation, SpecDigests(catalog, models), memory_check)
    tasks = TaskService(
        ledger, overview, validation, watching, watching_many, pulse=pulse, submissions=submissions
    )
    deliveries = DeliveryOverview(cell.store, KeptDeliveries(cell.connection, cell.keys))
    operations = OperationsService(
        overview,
        deliveries,
        validation,
        performance=Performance(cell.connection, cell.keys, catalog),
        readers=LogReaders(cell.connection, cell.keys, cell.log, cell.store),
    )
    return (
        ServicePlan(descriptor=_TASK_SERVICE, servicer=tasks, limits=LIMITS),
        ServicePlan(descriptor=_OPERATIONS_SERVICE, servicer=operations),
        ServicePlan(descriptor=_ACCESS_SERVICE, servicer=AccessService(credentials, validation)),
        ServicePlan(descriptor=_HEALTH_SERVICE, servicer=health, public=True),
    )
