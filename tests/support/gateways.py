"""Gateways for tests: a real HTTP server on a real port, before a real control plane."""

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from callsheet.gateway.main import Gateway, running_gateway
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.server import ServerLimits
from callsheet.runtime.settings import Settings
from tests.support.controls import ALL_ROLES, Plane, running_plane

#: The longest a test waits for an answer.
PATIENCE = 30.0
#: Trusts nobody, and is never used: reading the system's authorities takes a client 30 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class RunningGateway:
    """A gateway, the control plane behind it, and a client with a key of its default project."""

    gateway: Gateway
    plane: Plane
    settings: Settings
    #: Sends the key of the default project, which has all roles.
    http: httpx.AsyncClient
    key: str

    @property
    def url(self) -> str:
        """Where it listens: http://127.0.0.1:port."""
        return f"http://127.0.0.1:{self.gateway.server.port}"

    @property
    def host(self) -> str:
        """Host and port of it."""
        return f"127.0.0.1:{self.gateway.server.port}"

    async def new_key(
        self,
        *,
        projects: frozenset[str] = frozenset({"default"}),
        roles: frozenset[str] = ALL_ROLES,
    ) -> str:
        """Return the text of a new key."""
        return await self.plane.key(projects=projects, roles=roles)

    def client(
        self, key: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx.AsyncClient:
        """Return a client with this key, or without one; close it."""
        sent = {**({"x-api-key": key} if key else {}), **(headers or {})}
        return httpx.AsyncClient(
            base_url=self.url, headers=sent, timeout=PATIENCE, trust_env=False, verify=NO_TLS
        )

    async def submit(self, task_type: str = "ping", **task_data: object) -> str:
        """Submit a task over REST; return its id."""
        answer = await self.http.post(
            "/api/v1/tasks/submit", json={"task_type": task_type, "task_data": task_data}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])


@asynccontextmanager
async def running_gateway_plane(
    url: str,
    cell: str,
    folder: Path,
    *,
    limits: ServerLimits | None = None,
    room_limits: RoomLimits | None = None,
    **settings: object,
) -> AsyncGenerator[RunningGateway]:
    """Yield a gateway in this process, on a free port; its state is in the folder."""
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running_plane(url, cell))
        running = await stack.enter_async_context(
            gateway_before(
                plane, url, cell, folder, limits=limits, room_limits=room_limits, **settings
            )
        )
        yield running


@asynccontextmanager
async def gateway_before(
    plane: Plane,
    url: str,
    cell: str,
    folder: Path,
    *,
    limits: ServerLimits | None = None,
    room_limits: RoomLimits | None = None,
    **settings: object,
) -> AsyncGenerator[RunningGateway]:
    """Yield a gateway before that control plane."""
    chosen = gateway_settings(url, cell, folder, grpc_address=plane.address, **settings)
    async with running_gateway(chosen, limits=limits, room_limits=room_limits) as gateway:
        key = plane.client.key
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{gateway.server.port}",
            headers={"x-api-key": key},
            timeout=PATIENCE,
            trust_env=False,
            verify=NO_TLS,
        ) as http:
            yield RunningGateway(gateway, plane, chosen, http, key)


def gateway_settings(url: str, cell: str, folder: Path, **settings: object) -> Settings:
    """Return the settings of a gateway on a free port."""
    given: dict[str, object] = {
        "redis_url": url,
        "cell": cell,
        "state_dir": folder,
        "gateway_address": "127.0.0.1:0",
        "health_address": "none",
        "docs_address": "none",
        **settings,
    }
    return Settings(**cast("dict[str, Any]", given))
