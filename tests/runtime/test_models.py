"""The catalogue of models: closed, and clear about what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from callsheet.runtime.models import (
    BUILT_IN,
    TINY_RANDOM,
    CatalogueInvalid,
    UnknownModel,
    load_catalogue,
)

DEFAULTS: Final = """
family = "sdxl"
width = 1024
height = 1024
steps = 30
guidance_scale = 5
"""
LOCAL: Final = f'[models.film]\npath = "models/film"{DEFAULTS}'
HUB: Final = f'[models.sdxl]\nhub = "stabilityai/sdxl"\nrevision = "4621659"{DEFAULTS}'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_there_is_the_built_in_model_alone() -> None:
    catalogue = load_catalogue(None)
    assert dict(catalogue.models) == {TINY_RANDOM: BUILT_IN}
    assert catalogue.find("") is BUILT_IN
    assert BUILT_IN.is_built_in
    assert BUILT_IN.revision == ""


def test_a_local_model_is_found_beside_the_file_and_has_no_revision(tmp_path: Path) -> None:
    model = load_catalogue(written(tmp_path, LOCAL)).find("film")
    assert model.path == tmp_path / "models" / "film"
    assert (model.hub_id, model.revision, model.is_built_in) == (None, "", False)
    assert (model.family, model.default_width, model.default_height) == ("sdxl", 1024, 1024)
    assert (model.default_steps, model.default_guidance_scale) == (30, 5.0)


def test_a_model_of_the_hub_has_its_revision(tmp_path: Path) -> None:
    model = load_catalogue(written(tmp_path, HUB)).find("sdxl")
    assert (model.path, model.hub_id, model.revision) == (None, "stabilityai/sdxl", "4621659")


def test_an_empty_name_finds_the_default(tmp_path: Path) -> None:
    catalogue = load_catalogue(written(tmp_path, f'default = "sdxl"\n{LOCAL}\n{HUB}'))
    assert catalogue.find("").name == "sdxl"
    assert set(catalogue.models) == {"film", "sdxl"}


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'nope'; the catalogue has: film"):
        load_catalogue(written(tmp_path, LOCAL)).find("nope")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"it has no \[models.<name>\]"),
        ("models = 3", "models: must be a table"),
        ("colour = 1", "the file: unknown key 'colour'"),
        ("[models.x", "models.toml: "),
        (f"{LOCAL}\ncolour = 1", "models.film: unknown key 'colour'"),
        (f"{LOCAL}\n{HUB}", "default must name one of: film, sdxl"),
        (f'default = "nope"\n{LOCAL}', "default must name one of: film"),
        (f"default = 1\n{LOCAL}", "default must name one of: film"),
        (f"[models.film]{DEFAULTS}", "models.film: give either path or hub"),
        (f'{LOCAL}\nhub = "a/b"', "models.film: give either path or hub"),
        (f'{LOCAL}\nrevision = "1"', "models.film.revision: a local folder has no revision"),
        (f'[models.x]\nhub = "a/b"{DEFAULTS}', "models.x.revision: a model of the hub needs one"),
        (HUB.replace('"4621659"', '""'), "models.sdxl.revision: must be a text"),
        (HUB.replace("stabilityai/sdxl", "sdxl"), "models.sdxl.hub: has the form"),
        (LOCAL.replace('"models/film"', "3"), "models.film.path: must be a text"),
        (LOCAL.replace("film", "Film"), "models.Film: a name has the form"),
        (LOCAL.replace("models.film", f"models.{TINY_RANDOM}"), "is kept for the built-in model"),
        (LOCAL.replace('family = "sdxl"', ""), "models.film.family: must be a text"),
        (LOCAL.replace("width = 1024", "width = 1020"), "models.film.width: must be divisible by"),
        (LOCAL.replace("width = 1024", "width = 32"), "a whole number from 64 to 2048"),
        (LOCAL.replace("height = 1024", ""), "models.film.height: must be a whole number"),
        (LOCAL.replace("steps = 30", "steps = 151"), "a whole number from 1 to 150"),
        (LOCAL.replace("steps = 30", "steps = true"), "a whole number from 1 to 150"),
        (LOCAL.replace("scale = 5", "scale = 31"), "models.film.guidance_scale: must be a number"),
        (LOCAL.replace("scale = 5", "scale = nan"), "models.film.guidance_scale: must be a num"),
    ],
)
def test_what_has_no_meaning_is_refused_by_its_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CatalogueInvalid, match=reason) as caught:
        load_catalogue(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueInvalid, match=r"nope\.toml"):
        load_catalogue(tmp_path / "nope.toml")


MODEL = """
[models.a]
path = "a"
family = "sdxl"
width = 64
height = 64
steps = 1
guidance_scale = 1
"""


def test_a_model_of_agreement_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(MODEL)
    assert load_catalogue(file).agreement is None
    file.write_text(MODEL + '[agreement]\nhub = "someone/clip"\nrevision = "main"\n')
    agreement = load_catalogue(file).agreement
    assert agreement is not None
    assert (agreement.hub_id, agreement.revision, agreement.path) == ("someone/clip", "main", None)


@pytest.mark.parametrize("table", ['hub = "someone/clip"', 'path = "a"\nsteps = 1', "path = 1", ""])
def test_a_model_of_agreement_that_says_something_else_is_refused(
    tmp_path: Path, table: str
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(f"{MODEL}[agreement]\n{table}\n")
    with pytest.raises(CatalogueInvalid, match="agreement"):
        load_catalogue(file)


def test_only_what_cannot_change_pins_a_model() -> None:
    assert BUILT_IN.pin
    commit = "462165984030d82259a11f4367a4eed129e94a7b"
    hub = replace(BUILT_IN, name="a", hub_id="someone/a")
    assert replace(hub, revision=commit).pin == f"someone/a@{commit}"
    assert [replace(hub, revision=name).pin for name in ("main", "v1", commit[:12])] == ["", "", ""]
    assert replace(hub, hub_id=None, path=Path("a")).pin == ""
