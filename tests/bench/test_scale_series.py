"""The arithmetic of the figures of scale."""

import pytest

from tests.bench.scale_series import (
    Series,
    cpu_seconds,
    in_rounds,
    microseconds_a_call,
    percentile,
    power,
    ratio_in_rounds,
)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.95) == 7
    assert percentile([3.0, 1.0], 0.5) == 1


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_line_has_the_median_of_the_rounds_at_each_size() -> None:
    rounds = [{100: 5.0, 10: 1.0}, {100: 9.0, 10: 2.0}, {100: 6.0, 10: 30.0}]
    assert in_rounds(rounds) == ((10, 2.0), (100, 6.0))


def test_sizes_are_compared_within_their_round() -> None:
    """The second round was three times as slow as the others, and says the same."""
    rounds = [{10: 1.0, 100: 1.2}, {10: 3.0, 100: 3.6}, {10: 1.0, 100: 1.2}]
    assert ratio_in_rounds(rounds) == pytest.approx(1.2)


def test_growth_is_from_the_first_point_to_the_last() -> None:
    assert Series("claim", "µs", "queued", ((10, 4.0), (100, 40.0), (1000, 5.0))).growth == 1.25


def test_powers_of_ten_have_short_names() -> None:
    assert [power(n) for n in (1, 1_000, 1_000_000, 1_500)] == ["1e0", "1e3", "1e6", "1500"]


COUNTS = {
    "cmdstat_evalsha": {"calls": 20, "usec": 5_000},
    "cmdstat_zrange": {"calls": 10, "usec": 100},
    "cmdstat_hset": {"calls": 40, "usec": 80},
    "latency_percentiles_usec_evalsha": {"p50": 25.0, "p99": 900.0},
    "latency_percentiles_usec_zrange": {"p50": 10.0, "p99": 11.0},
    "latency_percentiles_usec_hset": {"p50": 2.0, "p99": 2.0},
}


def test_the_servers_time_is_that_of_the_callers_commands_alone() -> None:
    """Two scripts and one command a call; what a script runs is in the script's own time."""
    assert microseconds_a_call(COUNTS, ["evalsha", "eval", "zrange"], 10) == 60


def test_calls_that_the_server_did_not_count_are_told_loudly() -> None:
    with pytest.raises(ValueError, match="fewer than 21 calls"):
        microseconds_a_call(COUNTS, ["evalsha"], 21)


def test_a_process_is_on_a_cpu_as_long_as_its_threads_are() -> None:
    assert cpu_seconds(["1500000000 20 3\n", "500000000 7 1\n"]) == 2.0
