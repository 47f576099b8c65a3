"""One look at one part: bounded in time, and never the end of the others."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from callsheet.runtime.checks.finding import Finding, HealthState, looked, worst

UP, DEGRADED, DOWN, UNKNOWN = (
    HealthState.UP,
    HealthState.DEGRADED,
    HealthState.DOWN,
    HealthState.UNKNOWN,
)


@dataclass
class Silent:
    name: str = "silent"
    is_essential: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def look(self) -> Finding:
        await self.answered.wait()
        return Finding(state=UP)


@dataclass
class Broken:
    name: str = "broken"
    is_essential: bool = False

    async def look(self) -> Finding:
        raise LookupError("a defect at redis://me:hunter2@host")


async def test_a_part_that_does_not_answer_in_time_is_down() -> None:
    found = await looked(Silent(), timeout=timedelta(milliseconds=1))
    assert (found.state, found.reason) == (DOWN, "it does not answer within 0.001 seconds")


async def test_a_defect_of_a_check_is_not_told_to_everybody() -> None:
    found = await looked(Broken())
    assert (found.state, found.reason) == (UNKNOWN, "it could not be looked at")
    assert "LookupError" in found.detail


def test_the_worst_state_counts() -> None:
    assert worst([]) is UP
    assert worst([UP, UNKNOWN]) is UNKNOWN
    assert worst([UP, UNKNOWN, DEGRADED]) is DEGRADED
    assert worst([DEGRADED, DOWN, UP]) is DOWN
