"""The bench of a device runs, on the CPU and a tiny model; its figures are worthless there."""

import json
from pathlib import Path

import pytest

from tests.gpu.bench import main

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_bench_writes_what_it_found_of_every_part(tmp_path: Path) -> None:
    report = tmp_path / "build" / "bench-gpu.json"
    words = "--tiny --device cpu --modes eager compiled --batches 1 2 --rounds 1 --steps 3"
    words += " --compiler eager --channels-last"
    main([*words.split(), "--checkpoint-seconds", "1e-6", "--report", str(report)])
    found = json.loads(report.read_text())
    assert found["left_out"] == []
    assert [(point["mode"], point["batch"]) for point in found["points"]] == [
        ("eager", 1),
        ("eager", 2),
        ("compiled", 1),
        ("compiled", 2),
    ]
    for point in found["points"]:
        # Our side did all that an attempt does
        assert point["checkpoints"] > 0
        assert point["images_per_s"] > 0
        assert len(point["seconds"]) == len(point["bare_seconds"]) == 1
    assert found["machine"]["is_tiny"] is True
    assert found["machine"]["channels_last"] is True
    assert found["compile"]["shapes"] == 2
    assert found["build"]["parameters"] > 0
    assert found["checkpoint"]["bytes"] > 0
    assert found["preview"]["bytes"] > 0
    assert found["swap"]["seconds"] > 0


def test_what_the_budget_has_no_time_for_is_left_out_and_said(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    main(["--tiny", "--device", "cpu", "--batches", "1", "--budget", "0", "--report", str(report)])
    found = json.loads(report.read_text())
    assert found["points"] == []
    assert found["left_out"] == [
        "eager, batch 1: the budget is used up",
        "checkpoint: the budget is used up",
        "preview: the budget is used up",
        "compiling: the budget is used up",
        "compiled, batch 1: nothing is compiled",
        "swap: the budget is used up",
    ]


def test_a_machine_without_the_device_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no device cuda:99 here"):
        main(["--tiny", "--device", "cuda:99", "--report", str(tmp_path / "report.json")])
