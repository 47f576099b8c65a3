"""Carries a schedule out, writes down what took effect, and counts it."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from tests.chaos import link_effects, process_effects, server_effects
from tests.chaos.effects import Inflict, NotFired
from tests.chaos.faults import Fault, manner_of
from tests.chaos.history import FaultBegun, FaultEnded, HistoryWriter
from tests.chaos.plane import Plane

_EFFECTS: Final[Mapping[str, Inflict]] = {
    "kill": process_effects.killed,
    "stop": process_effects.stopped,
    "clock_jump": process_effects.clock_jumped,
    "cut_after": link_effects.cut_after,
    "cut": link_effects.cut,
    "delay": link_effects.delayed,
    "drop": link_effects.dropped,
    "client_pause": server_effects.client_paused,
    "slow_fsync": server_effects.slow_to_sync,
    "oom": server_effects.memory_filled,
    "disk_full": server_effects.disk_filled,
}

_TRIES: Final = 3
_PAUSE: Final = timedelta(seconds=1)


class Nemesis:
    """Does what the schedule says to one plane."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._history = HistoryWriter(plane.folder, "nemesis")
        #: What took effect, and what did not and why, by kind.
        self.fired: Counter[str] = Counter()
        self.missed: dict[str, str] = {}
        self._numbers = 0

    def close(self) -> None:
        """Close its history."""
        self._history.close()

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """Return when the last fault is over; they overlap as they are planned."""
        clock = asyncio.get_running_loop().time
        start = clock()
        async with asyncio.TaskGroup() as under_way:
            for fault in faults:
                await asyncio.sleep(start + fault.at - clock())
                under_way.create_task(self._inflict(fault))

    async def _inflict(self, fault: Fault) -> None:
        """Try until it takes effect: on a busy machine its target may not be there at once."""
        for _ in range(_TRIES):
            if await self._takes_effect(fault):
                return
            await asyncio.sleep(_PAUSE.total_seconds())

    async def _takes_effect(self, fault: Fault) -> bool:
        self._numbers += 1
        name = f"{fault.kind}-{self._numbers}"
        at = time.monotonic()
        try:
            async with _EFFECTS[manner_of(fault.kind)](self._plane, fault) as effect:
                self.fired[fault.kind] += 1
                self._history.write(
                    FaultBegun(
                        at=at,
                        fault=name,
                        fault_kind=fault.kind,
                        target=fault.target,
                        evidence=effect.begun,
                    )
                )
                await asyncio.sleep(at + fault.length - time.monotonic())
        except NotFired as reason:
            self.missed[fault.kind] = f"{fault.target}: {reason}"
            return False
        self._history.write(FaultEnded(at=time.monotonic(), fault=name, evidence=effect.ended))
        return True


def impossible(*, has_small_disk: bool) -> Mapping[str, str]:
    """Return the kinds of faults that cannot be had on this machine, and why."""
    reasons: dict[str, str] = {}
    if not has_small_disk:
        reasons["disk_full"] = "a small disk of its own needs root and mount"
    if shutil.which("strace") is None:
        reasons["slow_fsync"] = "there is no strace: apt-get install strace"
    return reasons
