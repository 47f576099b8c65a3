"""Which faults a run has, decided before it begins: data, from a seed, and nothing else."""

import random  # noqa: TID251  # chance that a run can repeat is what a seed is for
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from tests.chaos.topology import VALKEY, WORKERS, links_to, processes_of

#: The roles whose processes are killed and stopped.
ROLES: Final = (
    "valkey", "control", "worker", "runner", "upkeep", "sidecar", "brain", "receiver",
)  # fmt: skip
#: The roles whose links are disturbed, and how.
SERVERS: Final = ("valkey", "control", "brain", "receiver")
MANNERS: Final = ("cut", "cut_after", "delay", "drop")

#: How long a fault of a manner lasts, in seconds: shortest, longest. A lease is 4 s here.
_LENGTHS: Final[Mapping[str, tuple[float, float]]] = {
    "kill": (0.0, 0.0),
    "stop": (0.5, 7.0),
    "cut": (0.0, 0.0),
    "cut_after": (1.0, 3.0),
    "delay": (1.0, 4.0),
    "drop": (1.0, 6.0),
    "client_pause": (0.3, 2.5),
    "slow_fsync": (1.5, 4.0),
    "oom": (1.0, 3.0),
    "disk_full": (2.0, 4.0),
    "clock_jump": (2.0, 6.0),
}
#: What a kill or a cut keeps others away from its target for.
_RECOVERY: Final = 4.0
_FIRST: Final = 1.0
#: The most seconds between two faults, and what a plan has in spare to have all kinds.
_SPARSEST: Final = 3.0
_SPARE: Final = 1.15


class Fault(Struct, frozen=True, kw_only=True):
    """One planned fault: *at* and *length* are seconds, from the start of the faults."""

    at: float
    kind: str
    target: str
    length: float

    @property
    def end(self) -> float:
        """When its target may be hit again."""
        return self.at + max(self.length, _RECOVERY)


@cache
def targets() -> Mapping[str, tuple[str, ...]]:
    """Return every kind of fault, with what it may hit."""
    kinds: dict[str, tuple[str, ...]] = {}
    for manner in ("kill", "stop"):
        kinds |= {f"{manner}_{role}": processes_of(role) for role in ROLES}
    for manner in MANNERS:
        kinds |= {f"{manner}_{role}": links_to(role) for role in SERVERS}
    kinds |= dict.fromkeys(("client_pause", "slow_fsync", "oom"), (VALKEY,))
    kinds["disk_full"] = ("artifacts",)
    kinds["clock_jump"] = WORKERS
    return kinds


def manner_of(kind: str) -> str:
    """Return what is done: the kind without the role that it is done to."""
    return next(name for name in (*_SPECIAL, *_BY_LENGTH) if kind.startswith(name))


_SPECIAL: Final = ("client_pause", "slow_fsync", "oom", "disk_full", "clock_jump")
_BY_LENGTH: Final = ("kill", "stop", "cut_after", "cut", "delay", "drop")


def plan(
    seed: int, seconds: float, kinds: Sequence[str], *, every: float | None = None
) -> tuple[Fault, ...]:
    """Return the faults of a run, all kinds in turn: one about *every* so many seconds.

    None: as many as it takes to have each kind. The same arguments give the same faults. Nothing
    is hit while it still has a fault.
    """
    every = every or min(_SPARSEST, (seconds - _FIRST) / (_SPARE * len(kinds)))
    dice = random.Random(seed)  # noqa: S311  # no secret
    faults: list[Fault] = []
    waiting: list[str] = []
    at = _FIRST
    while at < seconds:
        waiting = waiting or dice.sample(list(kinds), len(kinds))
        fault = _drawn(waiting, at, faults, dice, last=seconds)
        if fault is not None:
            faults.append(fault)
            waiting.remove(fault.kind)
        at += every * dice.uniform(0.6, 1.4)
    return tuple(faults)


def _drawn(
    waiting: Sequence[str], at: float, faults: Sequence[Fault], dice: random.Random, *, last: float
) -> Fault | None:
    """Return the first fault of those that wait whose target is free; None: there is none now."""
    busy = {fault.target for fault in faults if fault.end > at}
    for kind in waiting:
        free = [t for t in targets()[kind] if not any(_clash(t, hit) for hit in busy)]
        if free:
            shortest, longest = _LENGTHS[manner_of(kind)]
            length = min(dice.uniform(shortest, longest), max(shortest, last - at))
            return Fault(
                at=round(at, 3), kind=kind, target=dice.choice(free), length=round(length, 3)
            )
    return None


def _clash(one: str, other: str) -> bool:
    """Whether a fault of the one would hide a fault of the other: a link needs both its ends."""
    return one == other or one in other.split(">") or other in one.split(">")


def encode(faults: Sequence[Fault]) -> bytes:
    """Return the schedule as JSON."""
    return msgspec.json.format(msgspec.json.encode(faults), indent=1)
