"""What is next for a device: warm models and company are preferred, and nobody waits for ever."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.broker.choice import Waiting, company, overtaken, preferred

PATIENCE: Final = timedelta(seconds=30)
LONG_AGO: Final = timedelta(seconds=31)


def waits(name: str, **more: object) -> Waiting:
    """Return a task that waits; the first word of its name is its model, the second its company."""
    model, _, key = name.partition(" ")
    given = {"queue": 0, "priority": 5, "model": model, "batch_key": key.partition(" ")[0], **more}
    return Waiting(name, **given)  # pyright: ignore[reportArgumentType]  # each test gives what fits


def choose(
    waiting: Sequence[Waiting], *, warm: Collection[str], bucket: int, patience: timedelta
) -> tuple[Sequence[Waiting], Sequence[Waiting]]:
    """Return who is taken, if nobody else takes anything, and who is overtaken."""
    first = preferred(waiting, warm=warm, patience=patience)[0]
    taken = [first, *company(first, waiting, bucket=bucket, patience=patience)]
    return taken, overtaken(taken, waiting)


def chosen(
    waiting: Sequence[Waiting],
    *,
    warm: Sequence[str] = (),
    bucket: int = 4,
    patience: timedelta = PATIENCE,
) -> tuple[list[str], list[str]]:
    """Return the names of who is taken, and of who is overtaken."""
    taken, passed = choose(waiting, warm=warm, bucket=bucket, patience=patience)
    return [one.task_id for one in taken], [one.task_id for one in passed]


def test_the_most_urgent_is_next_when_no_model_is_warm() -> None:
    assert chosen([waits("flux"), waits("sdxl")]) == (["flux"], [])


def test_one_whose_model_is_warm_overtakes() -> None:
    waiting = [waits("flux"), waits("wan"), waits("sdxl")]
    assert chosen(waiting, warm=["sdxl"]) == (["sdxl"], ["flux", "wan"])


@pytest.mark.parametrize("less", [{"priority": 4}, {"queue": 1}])
def test_no_less_urgent_one_overtakes_for_its_model(less: dict[str, int]) -> None:
    waiting = [waits("flux"), waits("sdxl", **less)]
    assert chosen(waiting, warm=["sdxl"]) == (["flux"], [])


def test_who_was_overtaken_for_long_enough_is_next() -> None:
    waiting = [waits("flux"), waits("wan", overtaken_for=LONG_AGO), waits("sdxl")]
    assert chosen(waiting, warm=["sdxl"]) == (["wan"], ["flux"])
    waiting = [waits("flux"), waits("wan", overtaken_for=PATIENCE / 2), waits("sdxl")]
    assert chosen(waiting, warm=["sdxl"]) == (["sdxl"], ["flux", "wan"])


def test_what_may_run_together_does_up_to_the_bucket() -> None:
    waiting = [waits(f"sdxl a {number}") for number in range(6)]
    assert chosen(waiting, bucket=4)[0] == [f"sdxl a {number}" for number in range(4)]
    assert chosen(waiting, bucket=1)[0] == ["sdxl a 0"]


def test_others_are_overtaken_by_company() -> None:
    waiting = [waits("sdxl a 0"), waits("sdxl b"), waits("sdxl a 1"), waits("flux")]
    assert chosen(waiting) == (["sdxl a 0", "sdxl a 1"], ["sdxl b"])


def test_company_overtakes_nobody_who_was_overtaken_for_long_enough() -> None:
    late = waits("sdxl b", overtaken_for=LONG_AGO)
    waiting = [waits("sdxl a 0"), waits("sdxl a 1"), late, waits("sdxl a 2")]
    # It is his turn, and whoever stands before him does not go before him either
    assert chosen(waiting)[0] == ["sdxl b"]
    first = waits("sdxl a 0", overtaken_for=LONG_AGO)
    waiting = [first, waits("sdxl a 1"), late, waits("sdxl a 2")]
    assert chosen(waiting)[0] == ["sdxl a 0", "sdxl a 1"]
    # But one whose time has come as well may: the pass is made in any case
    waiting = [first, late, waits("sdxl a 1", overtaken_for=LONG_AGO)]
    assert chosen(waiting) == (["sdxl a 0", "sdxl a 1"], ["sdxl b"])


@pytest.mark.parametrize("more", [{"priority": 9}, {"queue": -1}])
def test_neither_does_it_overtake_who_is_more_urgent(more: dict[str, int]) -> None:
    head = waits("sdxl a 0", priority=9, queue=-1)
    stranger = waits("sdxl b", **{"priority": 5, "queue": 0, **more})
    assert chosen([head, stranger, waits("sdxl a 1")])[0] == ["sdxl a 0"]
    # Without him it joins, though it is less urgent than the first one
    assert chosen([head, waits("sdxl a 1")])[0] == ["sdxl a 0", "sdxl a 1"]


def test_who_is_overdue_does_not_go_before_who_is_more_urgent() -> None:
    waiting = [waits("flux", priority=9), waits("sdxl", overtaken_for=LONG_AGO)]
    assert chosen(waiting, warm=["sdxl"]) == (["flux"], [])


def test_all_others_stand_behind_the_first_one_as_they_wait() -> None:
    waiting = [waits("flux"), waits("wan"), waits("sdxl"), waits("sd15")]
    order = preferred(waiting, warm=["sdxl"], patience=PATIENCE)
    assert [one.task_id for one in order] == ["sdxl", "flux", "wan", "sd15"]


def test_without_patience_nobody_is_overtaken() -> None:
    waiting = [waits("sdxl a 0"), waits("sdxl a 1"), waits("flux"), waits("sdxl a 2")]
    got = chosen(waiting, warm=["flux"], patience=timedelta(0))
    assert got == (["sdxl a 0", "sdxl a 1"], [])


NAMES = st.sampled_from(["sdxl a", "sdxl b", "sdxl", "flux a", "flux", ""])
LINES = st.lists(
    st.tuples(
        NAMES,
        st.integers(0, 1),
        st.integers(0, 2),
        st.none() | st.timedeltas(timedelta(0), timedelta(minutes=1)),
    ),
    min_size=1,
    max_size=12,
)


@given(
    LINES,
    st.sets(st.sampled_from(["sdxl", "flux"])),
    st.integers(1, 5),
    st.sampled_from([timedelta(0), PATIENCE]),
)
def test_a_choice_keeps_its_promises(
    line: list[tuple[str, int, int, timedelta | None]],
    warm: set[str],
    bucket: int,
    patience: timedelta,
) -> None:
    waiting = [
        Waiting(
            f"{number}",
            queue,
            priority,
            model=name.partition(" ")[0],
            batch_key=name if " " in name else "",
            overtaken_for=since,
        )
        for number, (name, queue, priority, since) in enumerate(
            sorted(line, key=lambda each: (each[1], -each[2]))
        )
    ]
    taken, passed = choose(waiting, warm=warm, bucket=bucket, patience=patience)
    first, head = taken[0], waiting[0]
    # Somebody is taken, nobody twice, and never more than there is room for
    assert 1 <= len(taken) <= bucket
    assert len({one.task_id for one in taken}) == len(taken)
    # They may run together
    assert len(taken) == 1 or {one.batch_key for one in taken} == {first.batch_key} != {""}
    # The first is as urgent as anybody
    assert (first.queue, first.priority) == (head.queue, head.priority)
    for one in taken:
        for other in passed:
            if waiting.index(other) < waiting.index(one):
                # Only as urgent ones pass, and only overdue ones pass who is overdue
                assert (one.queue, one.priority) == (other.queue, other.priority)
                assert one.is_overdue(patience) or not other.is_overdue(patience)


@given(
    st.lists(st.tuples(st.integers(0, 20), NAMES), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(1, 60),
)
def test_whoever_comes_who_is_overdue_waits_for_overdue_ones_alone(
    arrivals: list[tuple[int, str]], bucket: int, limit: int
) -> None:
    """A device works through what comes, one attempt a second, and loads a model in five."""
    patience, coming = timedelta(seconds=limit), sorted(arrivals)
    there: list[tuple[int, str]] = []
    since: dict[int, int] = {}
    clock, warm, number = 0, "", 0
    while coming or there:
        clock = clock if there else max(clock, coming[0][0])
        while coming and coming[0][0] <= clock:
            there.append((number, coming.pop(0)[1]))
            number += 1
        line = [
            Waiting(
                f"{each}",
                0,
                5,
                model=name.partition(" ")[0],
                batch_key=name if " " in name else "",
                overtaken_for=timedelta(seconds=clock - since[each]) if each in since else None,
            )
            for each, name in there
        ]
        taken, passed = choose(line, warm=[warm], bucket=bucket, patience=patience)
        overdue = [each for each in line if each.is_overdue(patience)]
        assert not overdue or taken[0] == overdue[0]
        if {*overdue} & {*passed}:
            assert all(each in overdue for each in taken[1:])
        for each in passed:
            since.setdefault(int(each.task_id), clock)
        ids = {each.task_id for each in taken}
        there = [each for each in there if f"{each[0]}" not in ids]
        clock += 1 if taken[0].model == warm else 6
        warm = taken[0].model
