"""What looking at a part of the plane finds."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol, cast

import structlog

#: How long one look may take.
LOOK_TIME: Final = timedelta(seconds=5)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class HealthState(StrEnum):
    """How a part is."""

    UP = "up"
    #: It works, less well than it should.
    DEGRADED = "degraded"
    DOWN = "down"
    #: Nobody can tell.
    UNKNOWN = "unknown"


Figures = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How a part was when it was looked at."""

    state: HealthState
    #: Why it is not up, in words that anybody may read: no address, no name of a machine.
    reason: str = ""
    #: What else there is to say, for those who run the plane.
    detail: str = ""
    #: What mends it.
    mend: str = ""
    #: How long it took to answer.
    latency: timedelta | None = None
    #: Numbers, for those who run the plane.
    figures: Figures = field(default_factory=dict[str, str | int | float | bool])
    #: The parts it consists of, such as the queues that workers serve.
    parts: "Mapping[str, Finding]" = field(default_factory=dict[str, "Finding"])


class Check(Protocol):
    """Looks at one part of the plane."""

    @property
    def name(self) -> str:
        """The part's name."""
        ...

    @property
    def is_essential(self) -> bool:
        """Whether the plane does nothing without it."""
        ...

    async def look(self) -> Finding:
        """Return how the part is now; it may be cancelled when that takes too long."""
        ...


async def looked(check: Check, *, timeout: timedelta = LOOK_TIME) -> Finding:
    """Return what the check finds: a part that does not answer in time is down."""
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            return await check.look()
    except TimeoutError:
        return Finding(
            state=HealthState.DOWN,
            reason=f"it does not answer within {timeout.total_seconds():g} seconds",
            mend="see whether its machine is overloaded, or the way to it is closed",
        )
    except Exception as error:  # noqa: BLE001  # a defect of one check must not hide the other parts
        _log.exception("check_failed", check=check.name)
        return Finding(
            state=HealthState.UNKNOWN,
            reason="it could not be looked at",
            detail=f"{type(error).__name__}: {error}",
        )


def worst(states: Iterable[HealthState]) -> HealthState:
    """Return the worst of the states; what nobody can tell is better than what is not well."""
    found = set(states)
    for state in (HealthState.DOWN, HealthState.DEGRADED, HealthState.UNKNOWN):
        if state in found:
            return state
    return HealthState.UP
