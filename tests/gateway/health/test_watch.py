"""What is remembered of the plane's parts: their states, since when, and the worst of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from callsheet.gateway.health.views import plane_view
from callsheet.gateway.health.watch import HealthWatch
from callsheet.runtime.checks.finding import Finding, HealthState

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

UP, DEGRADED, DOWN, UNKNOWN = (
    HealthState.UP,
    HealthState.DEGRADED,
    HealthState.DOWN,
    HealthState.UNKNOWN,
)


@dataclass
class Clock:
    """Tells the time that the test set."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Part:
    """A part that is as the test says."""

    name: str
    is_essential: bool = False
    finding: Finding = field(default_factory=lambda: Finding(state=UP))
    looks: int = 0
    looked_at: Callable[[], None] = lambda: None

    async def look(self) -> Finding:
        self.looks += 1
        self.looked_at()
        return self.finding


def watch_of(*parts: Part, clock: Clock | None = None) -> HealthWatch:
    return HealthWatch(parts, now=clock or Clock(), interval=timedelta(microseconds=1))


async def test_nothing_is_known_before_the_first_look() -> None:
    watch = watch_of(Part("control", is_essential=True), Part("brain"))
    assert (watch.state, watch.since, watch.is_ready) == (UNKNOWN, NOON, False)
    view = plane_view(watch)
    assert view["components"]["brain"] == {  # pyright: ignore[reportIndexIssue]  # JSON, seen as it is
        "status": "unknown",
        "since": "2026-11-22T12:00:00.000Z",
        "reason": "it has not been looked at yet",
        "latency_ms": None,
        "checked": None,
    }


async def test_a_state_has_lasted_since_it_was_first_seen() -> None:
    # Given a part that is up, then down, and looked at again while it is down
    clock, part = Clock(), Part("control", is_essential=True)
    watch = watch_of(part, clock=clock)
    await watch.look_once()
    part.finding = Finding(state=DOWN, reason="it does not answer")
    clock.now = NOON + MINUTE
    await watch.look_once()
    part.finding = Finding(state=DOWN, reason="it refuses")
    clock.now = NOON + 2 * MINUTE
    await watch.look_once()
    # Then it has been down since the first time, for the reason of the last
    component = watch.components["control"]
    assert (component.since, component.seen) == (NOON + MINUTE, NOON + 2 * MINUTE)
    assert component.finding.reason == "it refuses"
    assert (watch.state, watch.since) == (DOWN, NOON + MINUTE)


async def test_the_parts_of_a_part_have_lasted_by_themselves() -> None:
    clock, part = Clock(), Part("workers")
    up, down = Finding(state=UP), Finding(state=DOWN)
    part.finding = Finding(state=UP, parts={"gpu": up, "system": up})
    watch = watch_of(part, clock=clock)
    await watch.look_once()
    part.finding = Finding(state=DEGRADED, parts={"gpu": down, "system": up, "new": up})
    clock.now = NOON + MINUTE
    await watch.look_once()
    assert watch.components["workers"].parts_since == {
        "gpu": NOON + MINUTE,
        "system": NOON,
        "new": NOON + MINUTE,
    }


@pytest.mark.parametrize(
    ("ledger", "brain", "plane"),
    [
        (UP, UP, UP),
        (UP, UNKNOWN, UP),
        (UP, DEGRADED, DEGRADED),
        (UP, DOWN, DEGRADED),
        (DEGRADED, UP, DEGRADED),
        (DOWN, UP, DOWN),
        (DOWN, DOWN, DOWN),
        (UNKNOWN, UP, UNKNOWN),
        (UNKNOWN, DOWN, UNKNOWN),
    ],
)
async def test_only_what_is_essential_takes_the_plane_down(
    ledger: HealthState, brain: HealthState, plane: HealthState
) -> None:
    watch = watch_of(
        Part("redis", is_essential=True, finding=Finding(state=ledger)),
        Part("brain", finding=Finding(state=brain)),
    )
    await watch.look_once()
    assert watch.state is plane


async def test_the_gateway_is_ready_while_control_is_up_whatever_else_is_down() -> None:
    control = Part("control", is_essential=True)
    watch = watch_of(control, Part("redis", is_essential=True, finding=Finding(state=DOWN)))
    await watch.look_once()
    assert watch.is_ready
    control.finding = Finding(state=DOWN)
    await watch.look_once()
    assert not watch.is_ready


async def test_a_part_that_hangs_keeps_no_other_from_being_looked_at() -> None:
    # Given one part that never answers, and one that does
    enough = asyncio.Event()

    class Hanging(Part):
        async def look(self) -> Finding:
            await asyncio.Event().wait()
            return self.finding

    quick = Part("quick", looked_at=lambda: enough.set() if quick.looks > 3 else None)
    watch = watch_of(Hanging("hanging"), quick)
    # When they are watched
    watching = asyncio.create_task(watch.run())
    async with asyncio.timeout(30):
        await enough.wait()
    watching.cancel()
    await asyncio.wait({watching})
    # Then the other one was looked at again and again
    assert watch.components["quick"].finding.state is UP
    assert watch.components["hanging"].seen is None
