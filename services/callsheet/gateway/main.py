"""Puts the gateway together from the settings, and runs it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import SystemRandom
from typing import Final

from starlette.routing import BaseRoute

from callsheet.gateway.aliases_background import BackgroundAliases
from callsheet.gateway.aliases_video import VideoAliases
from callsheet.gateway.app import build_app
from callsheet.gateway.artifacts import Artifacts
from callsheet.gateway.beside import Beside, running_beside
from callsheet.gateway.connect import Connect
from callsheet.gateway.events import Events
from callsheet.gateway.health.routes import routes as health_routes
from callsheet.gateway.health.running import Health, running_health
from callsheet.gateway.health.watch import HealthWatch
from callsheet.gateway.limits import StreamLimit
from callsheet.gateway.links import Links, link_key
from callsheet.gateway.openapi import Docs
from callsheet.gateway.plane import Plane
from callsheet.gateway.redis_roles import RedisRoles
from callsheet.gateway.renewal import Renewal
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.server import AddressTaken, Server, ServerLimits
from callsheet.gateway.session import Session
from callsheet.gateway.static_files import StaticFiles
from callsheet.gateway.tasks import Tasks
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.gateway.upload_spool import UploadThreads
from callsheet.gateway.uploads import UploadLimits, Uploads
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.lifecycle import announce_ready, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.secrets import SecretUnusable
from callsheet.runtime.settings import Settings, load_settings_or_exit

#: What stopping keeps of the drain timeout for what comes after the last request.
_CLOSING: Final = timedelta(seconds=1)
_NO_TIME: Final = timedelta()
#: Streams open at the same time, of one key and of all.
_STREAMS_OF_ONE_KEY: Final = 512
_STREAMS: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway."""

    server: Server
    plane: Plane
    #: Set when the gateway is about to end: whoever streams ends its stream.
    stopping: asyncio.Event
    #: How the plane is, and who tells of it.
    health: Health
    #: Rooms and conversations.
    beside: Beside

    async def drain(self, *, grace: timedelta) -> None:
        """End streams, let other requests end, and stop listening."""
        self.stopping.set()
        await self.server.stop(grace=grace)


def main() -> int:
    """Run the gateway until SIGTERM; return the exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="gateway")
    return run_until_signalled(
        lambda stop: _serve(settings, stop), drain_timeout=settings.drain_timeout
    )


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    try:
        async with running_gateway(settings) as gateway:
            announce_ready()
            await stop.wait()
            await gateway.drain(grace=max(_NO_TIME, settings.drain_timeout - _CLOSING))
    except (AddressTaken, SecretUnusable) as refusal:
        raise SystemExit(str(refusal)) from refusal


@asynccontextmanager
async def running_gateway(
    settings: Settings,
    *,
    limits: ServerLimits | None = None,
    room_limits: RoomLimits | None = None,
) -> AsyncGenerator[Gateway]:
    """Yield a gateway that serves, and stop it at the end.

    Control need not be there yet. Raises AddressTaken when it cannot listen at its address.
    """
    plane = Plane(settings.grpc_address)
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(plane.close)
        threads = UploadThreads(settings.uploads)
        stack.push_async_callback(threads.close)
        renewal = Renewal(plane, ticket_time=settings.session_ticket_time)
        stack.callback(renewal.close)
        beside = await stack.enter_async_context(
            running_beside(settings, plane, room_limits=room_limits)
        )
        docs = Docs()
        health = await stack.enter_async_context(
            running_health(settings, docs=docs.own_routes(), now=_now, jitter=SystemRandom().random)
        )
        told = [
            *health_routes(health.watch, plane),
            *_routes(settings, plane, beside, threads, health.watch, stopping=stopping),
        ]
        docs.tell_of(told)
        server = Server(
            build_app(
                [*told, *docs.routes(), *StaticFiles().routes()],
                settings,
                keys=plane,
                renewal=renewal,
            ),
            settings.gateway_address,
            limits=limits or ServerLimits(connections=settings.gateway_connections),
            trusted_proxies=settings.gateway_trusted_proxies,
        )
        await server.start()
        try:
            yield Gateway(
                server=server, plane=plane, stopping=stopping, health=health, beside=beside
            )
        finally:
            stopping.set()
            await server.stop(grace=_NO_TIME)


def _routes(
    settings: Settings,
    plane: Plane,
    beside: Beside,
    threads: UploadThreads,
    watch: HealthWatch,
    *,
    stopping: asyncio.Event,
) -> Iterator[BaseRoute]:
    """Yield the routes of all parts that a document tells of; the first that fits serves."""
    quota = UploadQuota(beside.sessions, cell=settings.cell, most=settings.upload_daily_bytes)
    streams = StreamLimit(each=_STREAMS_OF_ONE_KEY, total=_STREAMS)
    store = artifact_store(settings)
    links = Links(link_key(settings), time=settings.gateway_link_time, now=_now)
    upload_limits = UploadLimits(
        largest=min(settings.upload_largest_bytes, settings.upload_daily_bytes),
        at_once=settings.uploads,
        of_one_project=settings.uploads_of_one_project,
    )
    roles = RedisRoles(beside.sessions, beside.cache, watch, cell=settings.cell)
    yield from Tasks(plane, quota).routes()
    yield from Events(plane, streams=streams, stopping=stopping).routes()
    yield from Artifacts(plane, store, links).routes()
    uploads = Uploads(
        plane, store, quota, threads, limits=upload_limits, folder=settings.state_dir / "uploads"
    )
    yield from uploads.routes()
    yield from Session(
        plane, time=settings.session_time, ticket_time=settings.session_ticket_time
    ).routes()
    yield from VideoAliases(plane, roles, uploads, quota).routes()
    yield from BackgroundAliases(plane, quota).routes()
    yield from beside.routes()
    yield from Connect(plane, quota, streams=streams, stopping=stopping).routes()


def _now() -> datetime:
    return datetime.now(UTC)
