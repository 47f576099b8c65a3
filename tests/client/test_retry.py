"""When to try again, and when to stop."""

from __future__ import annotations

from datetime import timedelta

import pytest

from callsheet.client import (
    BackoffPolicy,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
)
from callsheet.client.errors import ERROR_CLASSES
from callsheet.client.retry import Backoff, Deadline, Outage, is_transient, retrying

MS = timedelta(milliseconds=1)
QUICK = BackoffPolicy(initial=MS, maximum=MS * 2)


def test_the_limit_of_a_wait_doubles_up_to_its_maximum() -> None:
    # Given a draw that always takes the whole of it
    backoff = Backoff(BackoffPolicy(initial=100 * MS, maximum=500 * MS), draw=lambda: 1.0)
    assert [backoff.next_wait() for _ in range(5)] == [
        100 * MS,
        200 * MS,
        400 * MS,
        500 * MS,
        500 * MS,
    ]


def test_a_wait_may_be_drawn_down_to_nothing() -> None:
    assert Backoff(draw=lambda: 0.0).next_wait() == timedelta(0)


def test_a_wait_comes_on_top_of_what_the_server_asked_for() -> None:
    backoff = Backoff(BackoffPolicy(initial=100 * MS, maximum=500 * MS), draw=lambda: 0.5)
    assert backoff.next_wait(at_least=timedelta(seconds=2)) == timedelta(seconds=2.05)


def test_after_a_reset_waits_are_short_again() -> None:
    backoff = Backoff(BackoffPolicy(initial=100 * MS, maximum=500 * MS), draw=lambda: 1.0)
    backoff.next_wait()
    backoff.next_wait()
    backoff.reset()
    assert backoff.next_wait() == 100 * MS


def test_a_thousand_failures_do_no_harm() -> None:
    backoff = Backoff(BackoffPolicy(initial=MS, maximum=500 * MS), draw=lambda: 1.0)
    assert [backoff.next_wait() for _ in range(1000)][-1] == 500 * MS


@pytest.mark.parametrize("error_class", ERROR_CLASSES.values(), ids=lambda each: each.__name__)
def test_only_what_may_pass_by_itself_is_tried_again(error_class: type[CallError]) -> None:
    assert is_transient(error_class("no")) is (error_class in (Unavailable, CallCancelled))


def test_a_full_ledger_is_tried_again_when_it_says_so() -> None:
    assert is_transient(ResourceExhausted("full", retry_delay=timedelta(seconds=1)))
    assert not is_transient(ResourceExhausted("too large"))


class Attempts:
    """Fails with the given errors in turn, then answers."""

    def __init__(self, *errors: CallError) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self, remaining: timedelta) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_transient_errors_are_tried_again_until_the_answer() -> None:
    attempts = Attempts(Unavailable("a"), CallCancelled("b"), Unavailable("c"))
    answer = await retrying(attempts, timeout=timedelta(minutes=1), backoff=Backoff(QUICK))
    assert (answer, attempts.made) == ("answer", 4)


async def test_other_errors_are_raised_at_once() -> None:
    attempts = Attempts(FailedPrecondition("final"))
    with pytest.raises(FailedPrecondition):
        await retrying(attempts, timeout=timedelta(minutes=1), backoff=Backoff(QUICK))
    assert attempts.made == 1


async def test_a_wait_longer_than_the_time_left_is_not_begun() -> None:
    attempts = Attempts(Unavailable("away", retry_delay=timedelta(minutes=2)))
    with pytest.raises(Unavailable):
        await retrying(attempts, timeout=timedelta(minutes=1), backoff=Backoff(QUICK))
    assert attempts.made == 1


async def test_what_kept_the_answer_away_is_told_rather_than_the_clock() -> None:
    attempts = Attempts(
        Unavailable("the ledger is away", reason="LEDGER_UNAVAILABLE"), DeadlineExceeded("late")
    )
    with pytest.raises(Unavailable) as refused:
        await retrying(attempts, timeout=timedelta(minutes=1), backoff=Backoff(QUICK))
    assert refused.value.reason == "LEDGER_UNAVAILABLE"


async def test_an_outage_is_borne_until_its_limit() -> None:
    outage = Outage(limit=MS * 5, backoff=Backoff(QUICK))

    async def stay_away() -> None:
        while True:
            await outage.bear(Unavailable("away"), until=Deadline(timedelta(minutes=1)))

    with pytest.raises(Unavailable):
        await stay_away()


async def test_an_outage_that_is_over_is_forgotten() -> None:
    # Given a plane that answers between any two failures
    outage = Outage(limit=MS * 5, backoff=Backoff(BackoffPolicy(initial=MS, maximum=MS)))
    for _ in range(20):
        await outage.bear(Unavailable("away"), until=Deadline(timedelta(minutes=1)))
        outage.over()


async def test_an_outage_bears_nothing_that_no_try_can_mend() -> None:
    outage = Outage(limit=timedelta(minutes=1), backoff=Backoff(QUICK))
    with pytest.raises(FailedPrecondition):
        await outage.bear(FailedPrecondition("final"), until=Deadline(timedelta(minutes=1)))
