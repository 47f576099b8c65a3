"""An outage must not look like the death of every worker."""

from datetime import timedelta

import pytest

from callsheet.upkeep.hold_off import HoldOff

LEASE = timedelta(seconds=10)
SECOND = 1_000_000
NOON = 1_800_000_000 * SECOND


def settled() -> HoldOff:
    """Return one that has looked for a whole lease, up to noon."""
    hold_off = HoldOff(LEASE)
    for second in range(10, -1, -1):
        hold_off.is_over(now=NOON - second * SECOND, instance="a")
    return hold_off


def test_it_lasts_a_whole_lease_after_the_start() -> None:
    hold_off = HoldOff(LEASE)
    looks = [hold_off.is_over(now=NOON + n * SECOND, instance="a") for n in range(12)]
    assert looks == [False] * 10 + [True] * 2


def test_it_is_over_while_nothing_happens() -> None:
    assert settled().is_over(now=NOON + SECOND, instance="a")


def test_it_begins_anew_when_the_server_was_restarted() -> None:
    hold_off = settled()
    assert not hold_off.is_over(now=NOON + SECOND, instance="b")
    looks = [hold_off.is_over(now=NOON + n * SECOND, instance="b") for n in range(2, 12)]
    assert looks == [False] * 9 + [True]


def test_it_begins_anew_when_the_ledger_did_not_answer() -> None:
    hold_off = settled()
    hold_off.interrupt()
    assert not hold_off.is_over(now=NOON + SECOND, instance="a")


@pytest.mark.parametrize("leap", [timedelta(seconds=6), timedelta(hours=1), -timedelta(seconds=1)])
def test_it_begins_anew_when_time_leaps(leap: timedelta) -> None:
    """The server hung, this process was stopped, the machine slept, or its clock was set."""
    hold_off = settled()
    now = NOON + leap // timedelta(microseconds=1)
    assert not hold_off.is_over(now=now, instance="a")
    assert not hold_off.is_over(now=now + 5 * SECOND, instance="a")
    assert hold_off.is_over(now=now + 10 * SECOND, instance="a")
