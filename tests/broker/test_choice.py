"""What is next for a device: warm models and company are preferred, and nobody waits for ever."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.broker.choice import Choice, Waiting, choose

PATIENCE: Final = timedelta(seconds=30)
LONG_AGO: Final = timedelta(seconds=31)


def waits(name: str, **more: object) -> Waiting:
    """Return a task that waits; the first word of its name is its model, the second its company."""
    model, _, key = name.partition(" ")
    given = {"queue": 0, "priority": 5, "model": model, "batch_key": key.partition(" ")[0], **more}
    return Waiting(name, **given)  # pyright: ignore[reportArgumentType]  # each test gives what fits


def chosen(
    waiting: Sequence[Waiting],
    *,
    warm: Sequence[str] = (),
    bucket: int = 4,
    patience: timedelta = PATIENCE,
) -> tuple[list[str], list[str]]:
    """Return the names of who is taken, and of who is overtaken."""
    choice = choose(waiting, warm=warm, bucket=bucket, patience=patience)
    return [one.task_id for one in choice.taken], [one.task_id for one in choice.overtaken]


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
    assert chosen([first, waits("sdxl a 1"), late, waits("sdxl a 2")])[0] == [
        "sdxl a 0",
        "sdxl a 1",
    ]


def test_without_patience_nobody_is_overtaken() -> None:
    waiting = [waits("sdxl a 0"), waits("sdxl a 1"), waits("flux"), waits("sdxl a 2")]
    got = chosen(waiting, warm=["flux"], patience=timedelta(0))
    assert got == (["sdxl a 0", "sdxl a 1"], [])


NAMES = st.sampled_from(["sdxl a", "sdxl b", "sdxl", "flux a", "flux", ""])
LINES = st.lists(
    st.tuples(
        NAMES,
        st.integers(0, 2),
        st.none() | st.timedeltas(timedelta(0), timedelta(minutes=1)),
    ),
    min_size=1,
    max_size=12,
)


@given(LINES, st.sets(st.sampled_from(["sdxl", "flux"])), st.integers(1, 5))
def test_a_choice_keeps_its_promises(
    line: list[tuple[str, int, timedelta | None]], warm: set[str], bucket: int
) -> None:
    waiting = [
        Waiting(
            f"{number}",
            0,
            priority,
            model=name.partition(" ")[0],
            batch_key=name if " " in name else "",
            overtaken_for=overtaken,
        )
        for number, (name, priority, overtaken) in enumerate(
            sorted(line, key=lambda each: -each[1])
        )
    ]
    choice = choose(waiting, warm=warm, bucket=bucket, patience=PATIENCE)
    check(choice, waiting, bucket=bucket)


def check(choice: Choice, waiting: Sequence[Waiting], *, bucket: int) -> None:
    taken, first = choice.taken, choice.taken[0]
    # Somebody is taken, nobody twice, and never more than there is room for
    assert 1 <= len(taken) <= bucket
    assert len(set(taken)) == len(taken)
    # They may run together
    assert len(taken) == 1 or {one.batch_key for one in taken} == {first.batch_key} != {""}
    # Who stands before one of them and waits on is known to be overtaken
    last = max(waiting.index(one) for one in taken)
    assert {*choice.overtaken} == {*waiting[:last]} - {*taken}
    # Of those who are overdue the first is next; nobody who joins passes another one
    overdue = [one for one in waiting if (one.overtaken_for or timedelta(0)) >= PATIENCE]
    if overdue:
        assert first == overdue[0]
        passed = [one for one in overdue if one in choice.overtaken]
        assert not passed
