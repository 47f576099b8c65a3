"""The schedule of a run follows from its seed, and has what was asked for."""

import pytest

from tests.chaos.faults import Fault, manner_of, plan, targets

KINDS = tuple(targets())
SEEDS = range(8)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another_one() -> None:
    assert plan(7, 60, KINDS) == plan(7, 60, KINDS)
    assert plan(7, 60, KINDS) != plan(8, 60, KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minute_has_all_kinds_of_faults_but_few(seed: int) -> None:
    planned = {fault.kind for fault in plan(seed, 60, KINDS)}
    assert len(planned) >= len(KINDS) - 4


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_minutes_have_every_kind_and_more_than_two_hundred_faults(seed: int) -> None:
    faults = plan(seed, 1200, KINDS)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert len(faults) >= 200


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_hit_while_it_still_has_a_fault(seed: int) -> None:
    faults = plan(seed, 300, KINDS)
    for number, fault in enumerate(faults):
        assert fault.target in targets()[fault.kind]
        assert fault.at + fault.length <= 300 + 8
        assert [other for other in faults[:number] if _are_at_once(other, fault)] == []


def test_each_kind_is_done_in_a_manner_of_its_own_name() -> None:
    assert manner_of("cut_after_valkey") == "cut_after"
    assert manner_of("cut_valkey") == "cut"
    assert all(kind.startswith(manner_of(kind)) for kind in KINDS)


def _are_at_once(one: Fault, other: Fault) -> bool:
    ends = {one.target, *one.target.split(">")} & {other.target, *other.target.split(">")}
    clash = one.target == other.target or bool(ends & {one.target, other.target})
    return clash and one.end > other.at
