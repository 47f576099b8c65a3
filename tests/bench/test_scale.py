"""The measurements of scale run, on a plane of real processes and a few tasks."""

from pathlib import Path

import pytest

from tests.bench.growth import growth_figures
from tests.bench.measure import Figure
from tests.bench.scale import PARTS, SMALL, main
from tests.bench.watchers import watcher_figures

SIZES = (60, 120)


async def test_every_operation_is_measured_at_every_size(tmp_path: Path) -> None:
    noted: dict[str, Figure] = {}
    lines = await growth_figures(tmp_path, noted.__setitem__, sizes=SIZES, rounds=1, calls=3)
    operations = ("claim", "list", "list_succeeded", "list_nothing", "get", "submit", "commit")
    assert [*noted] == [f"{each}_cost_120_vs_60" for each in operations]
    assert {line.name for line in lines} == {
        f"{each}_{measure}" for each in operations for measure in ("server_us", "p50_ms")
    }
    assert {tuple(x for x, _ in line.points) for line in lines} == {SIZES}
    assert all(y > 0 for line in lines for _, y in line.points)


async def test_watchers_are_measured_alone_and_together(tmp_path: Path) -> None:
    noted: dict[str, Figure] = {}
    lines = await watcher_figures(tmp_path, noted.__setitem__, counts=(1, 3))
    assert {*noted} == {
        f"watch_{kind}_{count}_{measure}"
        for kind in ("own", "shared")
        for count in (1, 3)
        for measure in ("p50_ms", "cpu_us")
    }
    assert {line.against for line in lines} == {"watchers of a task each", "watchers of one task"}
    assert all(y > 0 for line in lines for _, y in line.points)


def test_a_part_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["claims"])
    assert "there is no part claims" in capsys.readouterr().err


def test_each_part_can_be_tried_with_less_work() -> None:
    assert PARTS.keys() == SMALL.keys()
