"""The folders of the built-in models: made once, the same everywhere, and never half."""

from dataclasses import replace
from pathlib import Path

import pytest

from callsheet.runner.tiny import folders
from callsheet.runner.tiny.folders import SAVES, built_in_folder, folder_of
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.model_files import adapter_files, pipeline_files
from callsheet.runtime.models import (
    BUILT_IN,
    BUILT_IN_CONTROLNETS,
    BUILT_IN_LORAS,
    BUILT_INS,
)

# What the libraries warn of is theirs to mend.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("diffusers")]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_whatever_is_built_in_can_be_made() -> None:
    assert set(SAVES) == {*BUILT_INS, *BUILT_IN_LORAS, *BUILT_IN_CONTROLNETS}


@pytest.mark.parametrize("name", SAVES)
def test_a_built_in_model_has_the_same_bytes_wherever_it_is_made(
    name: str, cache_dir: Path, tmp_path: Path
) -> None:
    first = built_in_folder(name, cache_dir=cache_dir)
    imported("torch").rand(7)  # chance that was used before must not matter
    again = built_in_folder(name, cache_dir=tmp_path)
    assert contents(again) == contents(first)
    assert list(again.parent.iterdir()) == [again]


@pytest.mark.parametrize("name", SAVES)
def test_a_built_in_model_is_small_and_whole(name: str, cache_dir: Path) -> None:
    folder = built_in_folder(name, cache_dir=cache_dir)
    files = adapter_files(folder) if name in BUILT_IN_LORAS else pipeline_files(folder)
    assert files.is_whole, files.damages
    assert 0 < files.size_bytes < 10_000_000


def test_making_a_model_leaves_the_chance_of_the_process_as_it_was(tmp_path: Path) -> None:
    torch: Untyped = imported("torch")
    torch.manual_seed(3)
    expected = torch.rand(4).tolist()
    torch.manual_seed(3)
    built_in_folder("tiny-sd15-lora", cache_dir=tmp_path)
    assert torch.rand(4).tolist() == expected


def test_a_model_that_could_not_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "SAVES", {"tiny-flux": fail})
    with pytest.raises(OSError, match="No space left"):
        built_in_folder("tiny-flux", cache_dir=tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_only_a_built_in_model_is_made(tmp_path: Path) -> None:
    local = replace(BUILT_IN, name="film", path=tmp_path / "film")
    assert folder_of(local, cache_dir=tmp_path) == tmp_path / "film"
    on_the_hub = replace(BUILT_IN, name="film", hub_id="someone/film")
    assert folder_of(on_the_hub, cache_dir=tmp_path) is None
    with pytest.raises(KeyError):
        built_in_folder("film", cache_dir=tmp_path)
