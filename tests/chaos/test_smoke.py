"""Short chaos runs: one whose faults are always the same, and one that differs every time.

A run that fails can be had again: `make chaos SECONDS=22 SEED=<seed>` with the kinds that it says.
"""

import random  # noqa: TID251  # chance that a run can repeat is what a seed is for
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.faults import targets
from tests.chaos.run import Order, Outcome, chaos_run

SECONDS = 22
FIXED_SEED = 20_261_122
#: What a user meets first: everything that serves them dies, and replies are lost.
FIXED_KINDS = (
    "kill_valkey",
    "kill_control",
    "kill_worker",
    "kill_sidecar",
    "kill_upkeep",
    "stop_worker",
    "cut_after_valkey",
    "cut_after_control",
    "cut_valkey",
    "oom",
    "client_pause",
)
RANDOM_KINDS = 10

#: Leases have to run out, and a dozen processes start on a machine that has other tests to do.
pytestmark = pytest.mark.timeout(540)


async def run(folder: Path, seed: int, kinds: Sequence[str]) -> Outcome:
    again = f"make chaos SECONDS={SECONDS} SEED={seed} KINDS='{' '.join(kinds)}'"
    sys.stdout.write(f"{again}\n")
    return await chaos_run(folder, Order(seed=seed, seconds=SECONDS, kinds=kinds, rate=25))


def check(outcome: Outcome) -> None:
    assert outcome.violations == []
    assert (outcome.unfired, outcome.left) == ({}, "")
    assert outcome.tasks > 100
    assert all(outcome.invariants.values())


async def test_nothing_accepted_is_lost_whatever_dies(tmp_path: Path) -> None:
    check(await run(tmp_path, FIXED_SEED, FIXED_KINDS))


async def test_nothing_accepted_is_lost_under_faults_nobody_chose(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    kinds = random.Random(seed).sample(sorted(targets()), RANDOM_KINDS)  # noqa: S311  # no secret
    check(await run(tmp_path, seed, kinds))
