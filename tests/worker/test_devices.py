"""Which device a worker's runner gets."""

from pathlib import Path

import pytest

from callsheet.worker.devices import device_named


@pytest.mark.parametrize("setting", ["cpu", "cuda:1"])
def test_a_device_that_is_named_is_taken_as_it_is(setting: str, tmp_path: Path) -> None:
    assert device_named(setting, root=tmp_path) == setting


def test_without_a_gpu_auto_is_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert device_named("auto", root=tmp_path) == "cpu"


@pytest.mark.parametrize("sign", ["proc/driver/nvidia/gpus/0000:01:00.0", "dev/nvidia0"])
def test_with_a_gpu_auto_is_the_first(sign: str, tmp_path: Path) -> None:
    (tmp_path / sign).mkdir(parents=True)
    assert device_named("auto", root=tmp_path) == "cuda:0"
