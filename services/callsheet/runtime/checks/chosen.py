"""The checks of a plane: one for each part that the settings name."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

from callsheet.client import AsyncTaskClient
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.checks.brain_check import BrainCheck
from callsheet.runtime.checks.control_check import ControlCheck
from callsheet.runtime.checks.finding import Check
from callsheet.runtime.checks.payload_check import PayloadCheck
from callsheet.runtime.checks.plane_checks import SidecarCheck, WorkersCheck
from callsheet.runtime.checks.redis_check import RedisCheck
from callsheet.runtime.checks.storage_check import StorageCheck
from callsheet.runtime.payload import payload_place
from callsheet.runtime.settings import Settings

_PATIENCE: Final = timedelta(seconds=3)
_LEDGER_MEND: Final = "start it, or set REDIS_URL: workers wait, and nothing accepted is lost"


@asynccontextmanager
async def plane_checks(
    settings: Settings, *, jitter: Callable[[], float]
) -> AsyncGenerator[tuple[Check, ...]]:
    """Yield the checks of what the settings name; nothing is dialled before the first look.

    *jitter* gives a chance between 0 and 1.
    """
    async with AsyncExitStack() as stack:
        yield (
            *_of_redis(settings, stack),
            *_of_plane(settings, stack),
            *_of_neighbours(settings, stack, jitter=jitter),
            StorageCheck(artifact_store(settings), settings.artifacts_url),
        )


def _of_redis(settings: Settings, stack: AsyncExitStack) -> list[Check]:
    checks: list[Check] = []
    roles = (
        ("redis", settings.redis_url, _LEDGER_MEND),
        ("sessions", settings.sessions_redis(settings.redis_url), _mend("SESSIONS_REDIS_URL")),
        ("cache", settings.cache_redis(settings.redis_url), _mend("CACHE_REDIS_URL")),
    )
    for name, url, mend in roles:
        if url is not None:
            check = RedisCheck(name, url, is_ledger=name == "redis", mend=mend)
            stack.push_async_callback(check.close)
            checks.append(check)
    return checks


def _of_plane(settings: Settings, stack: AsyncExitStack) -> list[Check]:
    control = ControlCheck(settings.grpc_address)
    stack.push_async_callback(control.close)
    client: AsyncTaskClient | None = None
    if settings.health_key is not None:
        key = settings.health_key.get_secret_value()
        client = AsyncTaskClient(settings.grpc_address, key=key, timeout=_PATIENCE)
        stack.push_async_callback(client.close)
    has_brain = settings.brain_ws_url is not None
    return [control, WorkersCheck(client), SidecarCheck(client, has_brain=has_brain)]


def _of_neighbours(
    settings: Settings, stack: AsyncExitStack, *, jitter: Callable[[], float]
) -> list[Check]:
    checks: list[Check] = []
    if settings.brain_ws_url is not None:
        brain = BrainCheck(settings, jitter=jitter)
        stack.push_async_callback(brain.close)
        checks.append(brain)
    if (place := payload_place(settings)) is not None:
        payload = PayloadCheck(place, jitter=jitter)
        stack.push_async_callback(payload.close)
        checks.append(payload)
    return checks


def _mend(variable: str) -> str:
    return f"start it, or set {variable}: the plane does without, its answers are slower or fewer"
