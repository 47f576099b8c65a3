"""`callsheetd models`: the catalogue is listed, and damaged files are found, without torch."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from callsheet.embedded.arguments import command_line
from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.model_commands import models_command
from callsheet.runtime.families import Mode
from callsheet.runtime.model_files import DTYPE_BYTES
from callsheet.runtime.models import BUILT_IN_CONTROLNETS, BUILT_IN_LORAS, BUILT_INS
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings
from tests.support.weights import save_weights

CATALOGUE: Final = """
[models.film]
path = "film"
family = "sdxl"

[models.far]
hub = "someone/far"
revision = "main"
family = "wan"
dtype = "float16"

[loras.grain]
path = "grain"
family = "sdxl"
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of a local pipeline, a model of the hub that was not fetched, and a LoRA."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "models.toml").write_text(CATALOGUE)
    film = tmp_path / "film"
    save_weights(film / "unet" / "diffusion_pytorch_model.safetensors", a=2_500_000)
    (film / "unet" / "config.json").write_text("{}")
    (film / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    save_weights(tmp_path / "grain" / "grain.safetensors", a=10)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `callsheetd models …` and returns its exit code and what it prints."""
    settings = Settings(
        state_dir=folder, cache_dir=folder / "cache", models_file=folder / "models.toml"
    )

    def of(*words: str) -> tuple[int, str]:
        code = models_command(settings, command_line().parse_args(["models", *words]))
        return code, capsys.readouterr().out

    return of


def by_name(told: tuple[int, str]) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(told[1])}


def test_the_list_tells_sizes_and_what_memory_is_needed(run: Run) -> None:
    listed = by_name(run("list", "--json"))
    assert set(listed) == {
        *("film", "far", "grain", *BUILT_INS, *BUILT_IN_LORAS, *BUILT_IN_CONTROLNETS)
    }
    film = listed["film"]
    assert (film["kind"], film["family"], film["state"]) == ("model", "sdxl", "whole")
    assert (film["parameters"], film["stored_as"]) == (2_500_000, {"F32": 2_500_000})
    assert film["default_of"] == ["text_to_image", "image_to_image", "inpaint"]
    assert film["need"]["weight_bytes"] == 5_000_000
    assert film["need"]["working_bytes"] > 4_000_000_000
    assert film["need"]["peak_bytes"] == sum(
        film["need"][part] for part in ("weight_bytes", "working_bytes")
    )


def test_memory_is_reckoned_in_the_format_that_is_asked_for(run: Run) -> None:
    needs = {
        dtype: by_name(run("list", "--json", "--dtype", dtype))["film"]["need"]
        for dtype in DTYPE_BYTES
    }
    assert needs["float32"]["peak_bytes"] == 2 * needs["bfloat16"]["peak_bytes"]
    assert {need["dtype"] for need in needs.values()} == set(DTYPE_BYTES)


def test_what_is_not_here_yet_is_listed_without_sizes(run: Run) -> None:
    listed = by_name(run("list", "--json"))
    assert listed["far"]["state"] == "not_fetched"
    assert listed["far"]["default_of"] == [Mode.TEXT_TO_VIDEO, Mode.VIDEO_TO_VIDEO]
    assert listed["tiny-random"]["state"] == "not_built"
    assert "size_bytes" not in listed["far"]


def test_the_list_is_a_table_for_people(run: Run) -> None:
    lines = {line.split()[0]: line for line in run("list")[1].splitlines()}
    assert "2.5 M weights" in lines["film"]
    assert "10.0 MB on disk" in lines["film"]
    assert "GB in bfloat16" in lines["film"]
    assert lines["film"].endswith("default of text_to_image, image_to_image, inpaint")
    assert "not fetched yet" in lines["far"]
    assert "someone/far@main" in lines["far"]
    assert "lora" in lines["grain"]
    assert "not built yet  built in" in lines["tiny-svd"]


def test_whole_files_are_no_fault(run: Run) -> None:
    code, text = run("check", "film", "grain", "far")
    assert code == 0
    assert text.splitlines() == [
        "film: whole, 10.0 MB: unet 2.5 M",
        "grain: whole, 0 kB: 10 weights",
        "far: not fetched yet",
    ]


def test_a_file_that_is_cut_off_is_named_and_fails_the_check(run: Run, folder: Path) -> None:
    file = folder / "film" / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(file, 5_000)
    code, text = run("check")
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("film:")]
    assert line.startswith(f"film: {file}: cut off: it has 5000 of 10000")
    code, text = run("check", "film", "--json")
    (told,) = json.loads(text)
    assert (code, told["state"], told["size_bytes"]) == (1, "damaged", 0)
    assert told["damages"][0]["file"] == "unet/diffusion_pytorch_model.safetensors"
    assert "damaged: see `callsheetd models check`" in run("list")[1]


def test_a_folder_that_is_gone_fails_the_check(run: Run, folder: Path) -> None:
    shutil.rmtree(folder / "grain")
    assert run("check", "grain") == (1, f"grain: {folder / 'grain'}: the folder is not there\n")


def test_a_model_of_the_hub_is_looked_at_where_the_hub_keeps_it(run: Run, folder: Path) -> None:
    commit = "0" * 40
    repository = folder / "hub" / "models--someone--far"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder / "film", repository / "snapshots" / commit)
    far = by_name(run("list", "--json"))["far"]
    assert (far["state"], far["need"]["dtype"]) == ("whole", "float16")


def test_a_name_that_is_not_in_the_catalogue_is_refused(run: Run) -> None:
    with pytest.raises(CommandRefused, match="there is no model 'nope'; the catalogue has: far"):
        run("check", "nope")


def test_a_catalogue_that_makes_no_sense_is_a_wrong_setting(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "models.toml").write_text("[models.x]\nfamily = 3\n")
    settings = Settings(state_dir=folder, models_file=folder / "models.toml")
    asked = command_line().parse_args(["models", "list"])
    assert models_command(settings, asked) == EXIT_SETTINGS_REFUSED
    error = capsys.readouterr().err
    assert error.startswith(f"callsheetd: CALLSHEET_MODELS: {folder / 'models.toml'}: models.x")


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["warm"], ["warm", "--"]),
        (["warm", "film", "far"], ["warm", "--", "film", "far"]),
        (["build-tiny", "tiny-wan", "--json"], ["--json", "build-tiny", "--", "tiny-wan"]),
    ],
)
def test_what_needs_torch_becomes_the_runner_s_process(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], given: list[str]
) -> None:
    class BecameError(Exception):
        pass

    def execv(program: str, arguments: list[str]) -> None:
        raise BecameError(program, arguments)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(BecameError) as caught:
        run(*words)
    program, arguments = caught.value.args
    assert program == sys.executable
    assert arguments == [sys.executable, "-P", "-m", "callsheet.runner.models", *given]
