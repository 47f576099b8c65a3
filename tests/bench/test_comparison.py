"""What is made of what was measured: no test here measures anything."""

from dataclasses import replace

import pytest

from tests.bench import comparison
from tests.bench.comparison import Round
from tests.bench.side_by_side import figures
from tests.bench.turn import Turn


def turn(*, tasks: dict[int, float], idle: tuple[float, ...] = (), submits: float = 0) -> Turn:
    rates = {64: submits} if submits else {}
    return Turn(idle_ms=idle, submits_per_s=rates, tasks_per_s=tasks)


#: A noisy machine: in its second round everything took twice as long.
ROUNDS: list[Round] = [
    {
        "callsheet/always": turn(tasks={1: 900, 2: 1200}, idle=(2, 1, 3), submits=2000),
        "celery/always": turn(tasks={1: 400, 2: 300}, idle=(4, 5, 3)),
        "saq/always": turn(tasks={1: 200, 2: 600}, idle=(4,)),
        "callsheet/everysec": turn(tasks={1: 1500}),
        "celery/everysec": turn(tasks={1: 500}),
        "grpc-empty": turn(tasks={}, submits=5000),
    },
    {
        "callsheet/always": turn(tasks={1: 450, 2: 600}, idle=(4, 2, 6), submits=1000),
        "celery/always": turn(tasks={1: 200, 2: 150}, idle=(8, 10, 6)),
        "saq/always": turn(tasks={1: 100, 2: 300}, idle=(8,)),
        "callsheet/everysec": turn(tasks={1: 750}),
        "celery/everysec": turn(tasks={1: 250}),
        "grpc-empty": turn(tasks={}, submits=2500),
    },
]


def test_a_ratio_compares_within_a_round_so_that_a_slow_round_changes_nothing() -> None:
    assert comparison.e2e_vs_celery(ROUNDS, "always") == pytest.approx(3.0)
    assert comparison.e2e_vs_celery(ROUNDS, "everysec") == pytest.approx(3.0)
    assert comparison.idle_dispatch_vs_celery(ROUNDS) == pytest.approx(0.5)
    assert comparison.submit64_vs_empty(ROUNDS) == pytest.approx(0.4)


def test_the_best_peer_is_the_fastest_of_each_round() -> None:
    other = {**ROUNDS[1], "celery/always": turn(tasks={1: 1200})}
    assert comparison.e2e_vs_best_peer(ROUNDS, "always") == pytest.approx(2.0)
    assert comparison.e2e_vs_best_peer([other], "always") == pytest.approx(0.5)


def test_a_round_without_one_of_the_two_has_no_ratio() -> None:
    alone = [{key: turn for key, turn in ROUNDS[0].items() if key.startswith("callsheet")}]
    assert comparison.e2e_vs_celery(alone, "always") is None
    assert comparison.e2e_vs_best_peer(alone, "always") is None
    assert comparison.submit64_vs_empty(alone) is None
    assert comparison.e2e_vs_celery([*alone, ROUNDS[0]], "always") == pytest.approx(3.0)


def test_each_goes_by_its_best_way_and_one_by_one_is_a_ratio_of_its_own() -> None:
    bulk = replace(ROUNDS[0]["celery/always"], bulk_tasks_per_s={1: 800.0, 2: 700.0})
    rounds = [{**ROUNDS[0], "celery/always": bulk}]
    assert comparison.e2e_vs_celery(rounds, "always") == pytest.approx(1.5)
    one_by_one = comparison.e2e_vs_celery(rounds, "always", comparison.one_by_one)
    assert one_by_one == pytest.approx(3.0)


def test_the_floor_is_no_peer() -> None:
    fast = {**ROUNDS[0], "redis-set/always": turn(tasks={1: 1e6})}
    assert comparison.e2e_vs_best_peer([fast], "always") == pytest.approx(2.0)


def test_a_summary_holds_the_medians_of_the_rounds() -> None:
    turns = [turn(tasks={1: rate}, idle=(rate, rate + 1, 100)) for rate in (1, 3, 2)]
    it = comparison.summary(turns)
    assert it.tasks_per_s == {1: 2}
    assert (it.idle_p50_ms, it.idle_p99_ms) == (3, 100)
    assert (it.batch_per_s, it.submits_per_s) == (None, {})


def test_what_was_not_measured_has_no_figure() -> None:
    assert figures([{"grpc-empty": ROUNDS[0]["grpc-empty"]}]) == {}


def test_the_figures_have_the_names_that_issues_read() -> None:
    ours = replace(ROUNDS[0]["callsheet/always"], batch_per_s=20_000.0)
    found = figures([{**ROUNDS[0], "callsheet/always": ours}])
    assert {name: (figure.value, figure.ratio) for name, figure in found.items()} == {
        "idle_dispatch_p50_ms": (2, None),
        "batch_submit_per_s": (20_000, None),
        "submit64_vs_empty": (2000, pytest.approx(0.4)),
        "idle_dispatch_vs_celery": (pytest.approx(0.5), pytest.approx(0.5)),
        "e2e_vs_celery_always": (pytest.approx(3), pytest.approx(3)),
        "e2e_one_by_one_vs_celery_always": (pytest.approx(3), pytest.approx(3)),
        "e2e_vs_celery_everysec": (pytest.approx(3), pytest.approx(3)),
        "e2e_one_by_one_vs_celery_everysec": (pytest.approx(3), pytest.approx(3)),
        "e2e_vs_best_peer": (pytest.approx(2), pytest.approx(2)),
    }
    assert all("bar" in figure.against for figure in found.values())
