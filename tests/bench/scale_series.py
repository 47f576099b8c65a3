"""What is made of measured values, and how what the server and the kernel count is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

#: What the kernel counts in /proc/<pid>/task/<tid>/schedstat.
_NANOSECONDS: Final = 1e9


@dataclass(frozen=True)
class Series:
    """A line of a plot: (x, y) in the order of x; *name* is unique in a run."""

    name: str
    unit: str
    against: str
    points: tuple[tuple[float, float], ...]

    @property
    def growth(self) -> float:
        """How many times the first value the last one is: 1 is flat."""
        return self.points[-1][1] / self.points[0][1]


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that *share* of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there are no values")
    rank = max(1, -int(-share * len(ordered) // 1))
    return ordered[min(rank, len(ordered)) - 1]


def in_rounds(rounds: Sequence[Mapping[int, float]]) -> tuple[tuple[float, float], ...]:
    """Return (size, median over the rounds) by size."""
    return tuple((size, median(each[size] for each in rounds)) for size in sorted(rounds[0]))


def ratio_in_rounds(rounds: Sequence[Mapping[int, float]]) -> float:
    """Return the median over the rounds of the largest size's value by the smallest one's.

    Within a round both are measured moments apart, so what else the machine does cancels out.
    """
    low, high = min(rounds[0]), max(rounds[0])
    return median(each[high] / each[low] for each in rounds)


def power(count: int) -> str:
    """Return 1000 as 1e3; what is no power of ten as it is."""
    exponent = len(str(count)) - 1
    return f"1e{exponent}" if count == 10**exponent else str(count)


def microseconds_a_call(
    counts: Mapping[str, Mapping[str, float]], commands: Iterable[str], calls: int
) -> float:
    """Return the server's time for one of *calls*, by `INFO commandstats latencystats` since reset.

    *commands* are those that the caller sends; what a script runs is in the script's own time. Each
    counts as often as it is sent for one call, with its median: a mean would count in the time in
    which the kernel ran something else.
    Raises ValueError when the server counted fewer of them than there were calls.
    """
    found = {name: counts[f"cmdstat_{name}"] for name in commands if f"cmdstat_{name}" in counts}
    if sum(stat["calls"] for stat in found.values()) < calls:
        raise ValueError(f"the server counted fewer than {calls} calls: {counts}")
    medians = {name: counts[f"latency_percentiles_usec_{name}"]["p50"] for name in found}
    return sum(stat["calls"] / calls * medians[name] for name, stat in found.items())


def cpu_seconds(schedstats: Iterable[str]) -> float:
    """Return the time on a CPU of a process, by the schedstat of each of its threads."""
    return sum(int(text.split()[0]) for text in schedstats) / _NANOSECONDS
