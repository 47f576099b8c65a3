"""Looks at the brain: whether it answers, and what it says of itself."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from callsheet.brain.errors import BrainError
from callsheet.runtime.checks.finding import Finding, HealthState
from callsheet.runtime.settings import Settings

if TYPE_CHECKING:
    from callsheet.brain.brain import Brain

_PATIENCE: Final = timedelta(seconds=3)
#: Tasks go on without it, and what it is owed waits in the log.
_MEND: Final = "bring it back, or set BRAIN_WS_URL: what it was not told is written then"


class BrainCheck:
    """Keeps one connection to the brain; to be closed at the end. *jitter*: a chance from 0 to 1.

    The brain's protocol takes a second or two to load: it is loaded at the first look, aside.
    """

    name = "brain"
    is_essential = False

    def __init__(
        self,
        settings: Settings,
        *,
        jitter: Callable[[], float],
        patience: timedelta = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._patience = patience
        self._brain: Brain | None = None

    async def look(self) -> Finding:
        """Return how the brain is now."""
        try:
            brain = self._brain or await self._connected()
        except OSError as error:
            return _down("the file of its authorities cannot be read", str(error), mend=_MEND)
        if not await brain.connection.until_connected(timeout=self._patience):
            return _down("it is away", brain.connection.reason, mend=_MEND)
        before = monotonic()
        try:
            health = await brain.health_check(time_limit=self._patience)
        except BrainError as error:
            return _down("it does not answer", str(error), mend=_MEND)
        is_well = health.status == "ok"
        return Finding(
            state=HealthState.UP if is_well else HealthState.DEGRADED,
            reason="" if is_well else "it says that it is not well",
            detail=f"{health.version or 'a brain'} at {self._settings.brain_ws_url}: "
            f"{health.status[:100]}",
            latency=timedelta(seconds=monotonic() - before),
            figures={"tasks": int(health.tasks), "events": int(health.events)},
        )

    async def close(self) -> None:
        """Close its connection."""
        if self._brain is not None:
            await self._brain.__aexit__(None, None, None)

    async def _connected(self) -> "Brain":
        brain_of = await asyncio.to_thread(load_brain)
        brain = brain_of(self._settings, jitter=self._jitter, in_flight=1)
        if brain is None:
            raise ValueError("the settings name no brain")
        self._brain = await brain.__aenter__()
        return self._brain


def load_brain() -> "Callable[..., Brain | None]":
    """Load what speaks to the brain, which takes a second or two; return what makes a brain."""
    from callsheet.runtime.brain import brain_of  # noqa: PLC0415  # as said above

    return brain_of


def _down(reason: str, detail: str, *, mend: str) -> Finding:
    return Finding(state=HealthState.DOWN, reason=reason, detail=detail, mend=mend)
