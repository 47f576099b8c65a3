"""Looks at every part again and again, and remembers since when each is as it is."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import structlog

from callsheet.runtime.checks.finding import LOOK_TIME, Check, Finding, HealthState, looked, worst

#: Without which the gateway itself answers nothing of use.
CONTROL: Final = "control"

_NOT_YET: Final = Finding(state=HealthState.UNKNOWN, reason="it has not been looked at yet")

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of the plane: how it is, since when, and when that was seen."""

    finding: Finding
    since: datetime
    #: None: it has not been looked at yet.
    seen: datetime | None
    is_essential: bool
    #: Its parts, such as queues, by name: since when each is as it is.
    parts_since: Mapping[str, datetime]


class HealthWatch:
    """Knows how every part was a moment ago; who asks never waits for a part.

    *interval* lies between two looks, and each takes *look_time* at most.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        *,
        now: Callable[[], datetime],
        interval: timedelta,
        look_time: timedelta = LOOK_TIME,
    ) -> None:
        self._checks = tuple(checks)
        self._now = now
        self._interval = interval
        self._look_time = look_time
        start = now()
        self._components = {
            check.name: Component(
                finding=_NOT_YET,
                since=start,
                seen=None,
                is_essential=check.is_essential,
                parts_since={},
            )
            for check in checks
        }
        self._state = self._overall()
        self._since = start

    @property
    def components(self) -> Mapping[str, Component]:
        """The parts of the plane, by name, in the order in which they depend on each other."""
        return self._components

    @property
    def state(self) -> HealthState:
        """How the plane is as a whole."""
        return self._state

    @property
    def since(self) -> datetime:
        """Since when the plane is so."""
        return self._since

    @property
    def is_ready(self) -> bool:
        """Whether requests that need the plane are answered."""
        control = self._components.get(CONTROL)
        return control is not None and control.finding.state is HealthState.UP

    async def run(self) -> None:
        """Look at every part for ever."""
        async with asyncio.TaskGroup() as group:
            for check in self._checks:
                group.create_task(self._watch(check), name=f"health-{check.name}")

    async def look_once(self) -> None:
        """Look at every part once."""
        await asyncio.gather(*map(self._look, self._checks))

    async def _watch(self, check: Check) -> None:
        while True:
            await self._look(check)
            await asyncio.sleep(self._interval.total_seconds())

    async def _look(self, check: Check) -> None:
        self._note(check, await looked(check, timeout=self._look_time))

    def _note(self, check: Check, found: Finding) -> None:
        now = self._now()
        before = self._components[check.name]
        self._components[check.name] = Component(
            finding=found,
            since=before.since if before.finding.state is found.state else now,
            seen=now,
            is_essential=check.is_essential,
            parts_since={
                name: before.parts_since[name]
                if name in before.parts_since and before.finding.parts[name].state is part.state
                else now
                for name, part in found.parts.items()
            },
        )
        if before.finding.state is not found.state:
            _log_change(check.name, before.finding, found)
        if (state := self._overall()) is not self._state:
            self._state, self._since = state, now

    def _overall(self) -> HealthState:
        """An essential part that is not well is the plane's own state; others only lessen it."""
        essential = worst(each.finding.state for each in self._essential())
        if essential in {HealthState.DOWN, HealthState.UNKNOWN}:
            return essential
        unwell = {HealthState.DOWN, HealthState.DEGRADED}
        is_unwell = any(each.finding.state in unwell for each in self._components.values())
        return HealthState.DEGRADED if is_unwell else HealthState.UP

    def _essential(self) -> Iterator[Component]:
        return (each for each in self._components.values() if each.is_essential)


def _log_change(name: str, before: Finding, after: Finding) -> None:
    tell = _log.info if after.state is HealthState.UP else _log.warning
    tell(
        "health_changed",
        part=name,
        before=before.state.value,
        state=after.state.value,
        reason=after.reason or None,
        detail=after.detail or None,
    )
