"""When a delivery is tried again: a pure function of tries, chance and what the endpoint asks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.runtime.settings import Settings
from callsheet.sidecar.retries import LONGEST_RETRY_AFTER, parse_retry_after, retry_delay

SCHEDULE = Settings.model_fields["webhook_retries"].default
NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def test_the_waits_are_those_of_the_schedule_and_then_none() -> None:
    waits = [retry_delay(tries, schedule=SCHEDULE, jitter=0.5) for tries in range(1, 9)]
    assert waits == [
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=10),
        None,
    ]


@given(st.integers(1, 7), st.floats(0, 1, exclude_max=True))
def test_chance_spreads_a_wait_by_a_fifth(tries: int, jitter: float) -> None:
    wait = retry_delay(tries, schedule=SCHEDULE, jitter=jitter)
    assert wait is not None
    assert 0.8 * SCHEDULE[tries - 1] <= wait <= 1.2 * SCHEDULE[tries - 1]


@given(st.integers(1, 7), st.timedeltas(min_value=timedelta(0)))
def test_what_an_endpoint_asks_for_is_honoured_within_bounds(tries: int, asked: timedelta) -> None:
    wait = retry_delay(tries, schedule=SCHEDULE, jitter=0.5, retry_after=asked)
    assert wait is not None
    assert SCHEDULE[tries - 1] / 2 <= wait <= LONGEST_RETRY_AFTER
    assert wait == asked or asked < wait or asked > LONGEST_RETRY_AFTER


def test_an_endpoint_cannot_ask_for_more_tries() -> None:
    after = timedelta(seconds=1)
    assert retry_delay(8, schedule=SCHEDULE, jitter=0.5, retry_after=after) is None


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        ("Mon, 01 Mar 2027 12:01:00 GMT", timedelta(minutes=1)),
        ("Mon, 01 Mar 2027 13:01:00 +0100", timedelta(minutes=1)),
        ("Mon, 01 Mar 2027 11:00:00 GMT", timedelta(0)),
        ("", None),
        ("1.5", None),
        ("-1", None),
        ("soon", None),
        ("9" * 5000, None),
        ("Mon, 99 Foo 2027 99:99:99 GMT", None),
        ("Mon, 01 Mar 99999999999 12:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, wait: timedelta | None) -> None:
    assert parse_retry_after(text, now=NOON) == wait


@given(st.text(max_size=60))
def test_no_header_breaks_the_reader(text: str) -> None:
    parse_retry_after(text, now=NOON)
