"""Runs what looks at the plane, and the small servers that tell of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from starlette.routing import BaseRoute

from callsheet.gateway.app import build_app
from callsheet.gateway.health.routes import aggregated_routes
from callsheet.gateway.health.watch import HealthWatch
from callsheet.gateway.server import Server, ServerLimits
from callsheet.runtime.checks.chosen import plane_checks
from callsheet.runtime.settings import Settings

#: The address on which nobody is to listen.
NOWHERE: Final = "none"

#: Probes and people, not the public.
_CONNECTIONS: Final = 256
_NO_TIME: Final = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What knows how the plane is, and who tells of it; None: nobody listens there."""

    watch: HealthWatch
    #: The health API.
    server: Server | None
    #: The documentation of the API, on an address of its own.
    docs: Server | None


@asynccontextmanager
async def running_health(
    settings: Settings,
    *,
    docs: Sequence[BaseRoute],
    now: Callable[[], datetime],
    jitter: Callable[[], float],
) -> AsyncGenerator[Health]:
    """Look at the plane and tell of it until the end; *docs* are the routes of documentation.

    *jitter* gives a chance between 0 and 1. Raises callsheet.gateway.server.AddressTaken when it
    cannot listen at one of its addresses.
    """
    async with plane_checks(settings, jitter=jitter) as checks:
        watch = HealthWatch(checks, now=now, interval=settings.health_interval)
        api = _telling(settings.health_address, aggregated_routes(watch), settings)
        async with (
            _looking(watch),
            api as server,
            _telling(settings.docs_address, docs, settings) as documentation,
        ):
            yield Health(watch=watch, server=server, docs=documentation)


@asynccontextmanager
async def _looking(watch: HealthWatch) -> AsyncGenerator[None]:
    looking = asyncio.create_task(watch.run(), name="health")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})


@asynccontextmanager
async def _telling(
    address: str, routes: Sequence[BaseRoute], settings: Settings
) -> AsyncGenerator[Server | None]:
    """Yield a server of these routes alone; None: there is to be none."""
    if address == NOWHERE:
        yield None
        return
    limits = ServerLimits(connections=_CONNECTIONS)
    server = Server(build_app(routes, settings), address, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace=_NO_TIME)
