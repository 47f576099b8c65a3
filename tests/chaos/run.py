"""A chaos run: `python -m tests.chaos.run --seconds 60 [--seed N]`; see `make chaos`.

A plane of real processes works while a nemesis breaks it by a schedule that follows from the seed.
Then all is healed, what is left to do is awaited, and the checker judges by the histories alone.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from msgspec import Struct
from msgspec.structs import replace

from tests.chaos.checker import check_folder
from tests.chaos.checks.report import Limits, Violation
from tests.chaos.faults import Fault, encode, plan, targets
from tests.chaos.final_state import FinalState, write_final
from tests.chaos.history import Healed, HistoryWriter
from tests.chaos.left import quiet, read_brain, read_left
from tests.chaos.nemesis import Nemesis, impossible
from tests.chaos.plane import LEASE, Plane, chaotic_plane
from tests.chaos.receiver import HEALED
from tests.chaos.server_effects import small_disk
from tests.chaos.workload import Workload

BUILD: Final = Path(__file__).parents[2] / "build"
#: How long what is left to do may take once all is healed.
DRAIN: Final = timedelta(seconds=120)
LIMITS: Final = Limits(lease=LEASE.total_seconds())

_START: Final = time.monotonic()
_LIVES_END: Final = timedelta(seconds=60)


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a run; `build/chaos.json` is this."""

    seed: int
    seconds: float
    tasks: int
    faults: dict[str, int]
    invariants: dict[str, int]
    violations: list[Violation]
    #: Kinds that were planned and never took effect, with the last reason; each fails the run.
    unfired: dict[str, str]
    #: Kinds that this machine cannot have, and why.
    impossible: dict[str, str]
    #: What was still to be done when patience ran out. Empty: nothing.
    left: str

    @property
    def is_good(self) -> bool:
        """Whether everything that was planned happened, and everything that must hold held."""
        return not (self.violations or self.unfired or self.left)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What run is wanted: of which *kinds* of faults, *every* so many seconds one.

    *rate* is of new tasks a second; without kinds there are all, without *every* all of them occur.
    """

    seed: int
    seconds: float
    kinds: Sequence[str] = ()
    every: float | None = None
    rate: float = 35.0


async def chaos_run(folder: Path, order: Order) -> Outcome:
    """Make a run in an empty folder, and return what the checker says of it."""
    with small_disk(folder / "artifacts") as has_small_disk:
        cannot = impossible(has_small_disk=has_small_disk)
        kinds = [kind for kind in order.kinds or targets() if kind not in cannot]
        faults = plan(order.seed, order.seconds, kinds, every=order.every)
        (folder / "schedule.json").write_bytes(encode(faults))
        _say("the plane comes up")
        async with chaotic_plane(folder) as plane:
            nemesis, left, final = await _lived(plane, order, faults)
            _say("the plane goes down")
    # The brain's process has ended by now, and with it its hold on the graph.
    write_final(folder, replace(final, brain=read_brain(plane.brain_folder)))
    report = check_folder(folder, limits=LIMITS)
    planned = {fault.kind for fault in faults}
    return Outcome(
        seed=order.seed,
        seconds=order.seconds,
        tasks=len(final.tasks),
        faults=dict(sorted(nemesis.fired.items())),
        invariants=report.counts(),
        violations=report.violations,
        unfired={
            kind: nemesis.missed.get(kind, "it was not tried")
            for kind in sorted(planned - nemesis.fired.keys())
        },
        impossible={kind: why for kind, why in cannot.items() if kind in (order.kinds or cannot)},
        left=left,
    )


async def _lived(
    plane: Plane, order: Order, faults: Sequence[Fault]
) -> tuple[Nemesis, str, FinalState]:
    """Work under faults, heal, and wait; return what was done, what is left, and the end."""
    workload, nemesis = Workload(plane, order.seed), Nemesis(plane)
    history = HistoryWriter(plane.folder, "run")
    until = asyncio.get_running_loop().time() + order.seconds
    try:
        _say(f"{len(faults)} faults are planned")
        async with asyncio.TaskGroup() as under_way:
            under_way.create_task(workload.run(until=until, rate=order.rate))
            under_way.create_task(nemesis.carry_out(faults))
        _say(f"healed after {nemesis.fired.total()} faults, {workload.accepted} tasks accepted")
        (plane.folder / HEALED).touch()
        history.write(Healed(at=time.monotonic(), faults=nemesis.fired.total()))
        await workload.flow()
        _say("work flows again")
        await workload.ended(within=_LIVES_END)
        _say("all calls have ended")
        left = await quiet(plane, within=DRAIN)
        return nemesis, left, await read_left(plane, await workload.shown())
    finally:
        await workload.close()
        nemesis.close()
        history.close()


def run_in_build(order: Order) -> Outcome:
    """Make a run in `build/chaos/<seed>`, which is kept only when something went wrong."""
    folder = BUILD / "chaos" / str(order.seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(chaos_run(folder, order))
    (folder / "chaos.json").write_bytes(told(outcome))
    if outcome.is_good:
        shutil.rmtree(folder)
    return outcome


def _say(words: str) -> None:
    print(f"{time.monotonic() - _START:7.1f} s  {words}", flush=True)


def told(outcome: Outcome) -> bytes:
    """Return the outcome as JSON to read."""
    return msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n"


def _print_outcome(outcome: Outcome) -> None:
    faults: Mapping[str, int] = outcome.faults
    print(f"{outcome.tasks} tasks, {sum(faults.values())} faults of {len(faults)} kinds")
    for name, count in outcome.invariants.items():
        print(f"  {name:<34} checked {count:>8} times")
    for kind, why in outcome.impossible.items():
        print(f"NOT PLANNED, this machine cannot: {kind}: {why}")
    for kind, why in outcome.unfired.items():
        print(f"DID NOT FIRE: {kind}: {why}")
    if outcome.left:
        print(f"STILL TO BE DONE when patience ran out: {outcome.left}")
    for violation in outcome.violations[:50]:
        print(f"VIOLATION {violation.invariant} {violation.about}: {violation.sentence}")
    if not outcome.is_good:
        print(f"{len(outcome.violations)} violations; see {BUILD / 'chaos' / str(outcome.seed)}")


def main(arguments: Sequence[str]) -> int:
    """Make the run that is asked for; return 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults last")
    parser.add_argument("--seed", type=int, help="of the schedule and the workload; else random")
    parser.add_argument("--kinds", nargs="*", default=[], choices=sorted(targets()))
    parser.add_argument("--every", type=float, help="seconds between two faults")
    parser.add_argument("--rate", type=float, default=35.0, help="new tasks a second")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if given.seed is None else given.seed
    print(f"seed {seed}, {given.seconds:g} s of faults", flush=True)
    order = Order(
        seed=seed, seconds=given.seconds, kinds=given.kinds, every=given.every, rate=given.rate
    )
    outcome = run_in_build(order)
    (BUILD / "chaos.json").write_bytes(told(outcome))
    _print_outcome(outcome)
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
