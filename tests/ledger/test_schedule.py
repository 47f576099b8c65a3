"""The core lives through days of losses, pauses and outages, in an order that a seed decides.

A seed that fails is in its test's name: `pytest tests/ledger/test_schedule.py -k 'well[17]'` plays
it again, step for step. CALLSHEET_SCHEDULES says how many are played, CALLSHEET_SCHEDULE_SEED from
which one on.
"""

import logging
import os
from collections import Counter
from collections.abc import Generator
from typing import Final

import pytest
import structlog

from tests.chaos.schedule.days import Days

COUNT: Final = int(os.environ.get("CALLSHEET_SCHEDULES", "200"))
FIRST: Final = int(os.environ.get("CALLSHEET_SCHEDULE_SEED", "1"))
#: What a few seeds together must have seen, or they prove nothing.
PROBES: Final = frozenset(
    {"lost", "stopped", "AttemptReturned", "CancelRequested", "TaskCancelled", "TaskFailed"}
)
#: Seeds that show a fault, which was made on purpose or not; they are played whatever else is.
REGRESSIONS: Final = {
    8: "commits that forgot their operation: a worker was told that its result does not count",
    138: "a rescuer without a guard on the lease's score: it took a lease in force away",
    173: "a rescuer without a hold-off: an outage cost a worker its attempt",
    196: "an outage that was still on when the days were healed",
}


@pytest.fixture(autouse=True)
def silence() -> Generator[None]:
    """Say nothing of days: there are thousands of leases that expire."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def play(seed: int) -> Counter[str]:
    """Let the seed's days pass; return what happened how often."""
    days = Days(seed)
    try:
        days.pass_by()
    except Exception as error:
        raise AssertionError(f"seed {seed}, step {days.clockwork.steps}: {error!r}") from error
    return Counter(days.judge.counts)


@pytest.mark.parametrize("seed", sorted({*REGRESSIONS, *range(FIRST, FIRST + COUNT)}))
def test_days_of_trouble_end_well(seed: int) -> None:
    play(seed)


def test_the_same_seed_is_the_same_days() -> None:
    first, second = Days(7), Days(7)
    for days in (first, second):
        days.pass_by()
    assert first.cell.log == second.cell.log
    assert first.clockwork.steps == second.clockwork.steps


def test_the_days_have_seen_what_they_are_to_prove() -> None:
    seen = sum((play(seed) for seed in range(10)), Counter[str]())
    assert {probe for probe in PROBES if not seen[probe]} == set()
