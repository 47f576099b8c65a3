"""When and where a fault was in force."""

from math import inf
from typing import NamedTuple

from msgspec import Struct

from tests.chaos.checks.report import Limits, Report
from tests.chaos.checks.view import View
from tests.chaos.history import FaultBegun, FaultEnded, ProcessEnded, ProcessStarted

#: The servers that every part of the plane leans on.
_SHARED = ("valkey", "all")


class Spell(Struct, frozen=True):
    """A time in which something was not well, in seconds by the monotonic clock."""

    begin: float
    end: float
    kind: str
    target: str

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether part of it lies between the two times."""
        return self.begin <= end and begin <= self.end

    def touches(self, process: str) -> bool:
        """Whether it hit the process, a part of it, or a link of it."""
        return self.target == process or self.target.startswith((f"{process}>", f"{process}/"))

    @property
    def is_link(self) -> bool:
        """Whether it hit a link and no process."""
        return ">" in self.target

    @property
    def is_shared(self) -> bool:
        """Whether it hit what all share: the ledger's server."""
        return self.target.startswith(_SHARED)


class Scene(NamedTuple):
    """A run as one sees it who must reckon with faults."""

    view: View
    faults: list[Spell]
    limits: Limits
    report: Report


def spells(view: View) -> list[Spell]:
    """Return the faults, each to its end, and the times in which a process was dead."""
    ends = {each.fault: each.at for each in view.of(FaultEnded)}
    found = [
        Spell(each.at, ends.get(each.fault, inf), each.fault_kind, each.target)
        for each in view.of(FaultBegun)
    ]
    starts = view.of(ProcessStarted)
    for death in view.of(ProcessEnded):
        again = (each.at for each in starts if each.process == death.process)
        end = min((at for at in again if at >= death.at), default=inf)
        found.append(Spell(death.at, end, "death", death.process))
    return found
