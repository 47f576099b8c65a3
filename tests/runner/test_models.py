"""`callsheetd models build-tiny` and `warm`: what needs torch, in a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from callsheet.runner.models import build_tiny, main, warm
from callsheet.runner.tiny.folders import SAVES
from callsheet.runtime.models import UnknownModel
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

BROKEN: Final = '[models.film]\npath = "film"\nfamily = "sdxl"\n'


def settings(cache_dir: Path, *, models_file: Path | None = None, device: str = "cpu") -> Settings:
    return Settings(cache_dir=cache_dir, models_file=models_file, device=device)


def test_tiny_models_are_built_once(tmp_path: Path) -> None:
    names = ["tiny-vits", "tiny-sd15-lora"]
    first = [*build_tiny(settings(tmp_path), names)]
    assert [(row["name"], row["state"]) for row in first] == [(name, "built") for name in names]
    assert all(Path(str(row["folder"])).is_dir() for row in first)
    assert [row["state"] for row in build_tiny(settings(tmp_path), names)] == ["was there"] * 2


def test_without_names_every_tiny_model_is_built(cache_dir: Path) -> None:
    assert [row["name"] for row in build_tiny(settings(cache_dir), [])] == [*SAVES]


def test_only_what_is_built_in_can_be_built(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="there is no built-in model 'sdxl'"):
        next(build_tiny(settings(tmp_path), ["tiny-vits", "sdxl"]))
    assert not (tmp_path / "models").exists()


def test_models_are_loaded_one_after_the_other(cache_dir: Path) -> None:
    rows = [*warm(settings(cache_dir), ["tiny-random", "tiny-vits", "tiny-stable_audio"])]
    assert [row["state"] for row in rows] == ["loaded"] * 3
    assert all(row["device"] == "cpu" for row in rows)
    assert int(rows[0]["weight_bytes"]) == 503_571 * 4


def test_a_model_that_cannot_be_loaded_spares_the_others(tmp_path: Path, cache_dir: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(BROKEN)
    (tmp_path / "film").mkdir()
    rows = [*warm(settings(cache_dir, models_file=file), ["film", "tiny-random"])]
    assert str(rows[0]["error"]).startswith("model film cannot be loaded")
    assert rows[1]["state"] == "loaded"


def test_a_device_that_is_not_there_is_told_of_every_model(tmp_path: Path) -> None:
    [row] = warm(settings(tmp_path, device="cuda:7"), ["tiny-random"])
    assert row == {"name": "tiny-random", "error": "there is no device cuda:7 here"}


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs the command in this process; returns its code, what it prints, and its complaints."""

    def leave_logs_alone(settings: Settings, *, process: str) -> None:
        assert (settings.log_level, process) == ("error", "callsheetd")

    monkeypatch.setattr("callsheet.runner.models.configure_logging", leave_logs_alone)

    def run(*words: str, catalogue: str = BROKEN) -> tuple[int, str, str]:
        (tmp_path / "models.toml").write_text(catalogue)
        variables = {
            "CALLSHEET_STATE_DIR": str(tmp_path),
            "CALLSHEET_CACHE_DIR": str(cache_dir),
            "CALLSHEET_DEVICE": "cpu",
            "CALLSHEET_MODELS": str(tmp_path / "models.toml"),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = main(words)
        told = capsys.readouterr()
        # Of the output the answer alone: logs that nobody configured are written there too.
        lines = [line for line in told.out.splitlines() if "[info" not in line]
        return code, "\n".join(lines), told.err

    return run


def test_what_was_done_is_one_array_and_a_failure_an_exit_code(command: Command) -> None:
    code, text, complaint = command("--json", "warm", "--", "tiny-random", "film")
    loaded, failed = json.loads(text)
    assert (code, complaint) == (1, "")
    assert (loaded["name"], loaded["state"]) == ("tiny-random", "loaded")
    assert failed == {"name": "film", "error": "the folder of model film is not there"}


def test_for_people_every_model_is_a_line(command: Command) -> None:
    code, text, _ = command("build-tiny", "tiny-vits", "tiny-sdxl-lora")
    assert code == 0
    assert [line.split("  ")[0] for line in text.splitlines()] == ["tiny-vits", "tiny-sdxl-lora"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["warm", "nope"], "callsheetd: there is no model 'nope'; the catalogue has: film"),
        (["build-tiny", "nope"], "callsheetd: there is no built-in model 'nope'"),
    ],
)
def test_a_name_that_is_unknown_is_one_line(command: Command, words: list[str], line: str) -> None:
    code, text, complaint = command(*words)
    assert (code, text, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith(line)


def test_a_catalogue_that_makes_no_sense_is_a_wrong_setting(command: Command) -> None:
    code, _, complaint = command("warm", catalogue="models = 3")
    assert code == EXIT_SETTINGS_REFUSED
    assert complaint.startswith("callsheetd: CALLSHEET_MODELS: ")
