"""The circuit breaker, on a clock that the test sets."""

from datetime import timedelta

from callsheet.brain.breaker import CircuitBreaker


class Clock:
    """Tells the seconds that the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> CircuitBreaker:
    """Return a breaker that three failures have opened, for ten seconds."""
    breaker = CircuitBreaker(clock, failures=3, rest=timedelta(seconds=10))
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = opened(Clock())
    assert breaker.is_open
    assert not breaker.admits()


def test_failures_with_an_answer_between_them_do_not() -> None:
    breaker = CircuitBreaker(Clock(), failures=2, rest=timedelta(seconds=10))
    for _ in range(5):
        breaker.failed()
        breaker.close()
    assert not breaker.is_open


def test_after_its_rest_one_call_shows_how_things_are() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    assert breaker.admits()
    assert not breaker.admits()
    breaker.close()
    assert breaker.admits()
    assert not breaker.is_open


def test_a_probe_that_fails_begins_another_rest() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    assert breaker.admits()
    breaker.failed()
    clock.now = 19.0
    assert not breaker.admits()
    clock.now = 20.0
    assert breaker.admits()


def test_a_probe_that_nobody_waited_for_makes_room_for_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    assert breaker.admits()
    breaker.abandoned()
    assert breaker.admits()
