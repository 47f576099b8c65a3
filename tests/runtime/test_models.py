"""The catalogue of models: closed, and clear about what it refuses."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import FAMILIES, Family, Mode
from callsheet.runtime.models import (
    BUILT_IN,
    BUILT_IN_CONTROLNETS,
    BUILT_IN_LORAS,
    BUILT_INS,
    TINY_RANDOM,
    CompileShape,
    Lora,
    ModelUnfit,
    UnknownModel,
    built_in_model,
)
from callsheet.runtime.toml_table import CatalogueInvalid

DEFAULTS: Final = """
family = "sdxl"
width = 1024
height = 1024
steps = 30
guidance_scale = 5
"""
LOCAL: Final = f'[models.film]\npath = "models/film"{DEFAULTS}'
HUB: Final = f'[models.sdxl]\nhub = "stabilityai/sdxl"\nrevision = "4621659"{DEFAULTS}'
WAN: Final = '[models.wan]\npath = "wan"\nfamily = "wan"'
LTX: Final = '[models.ltx]\npath = "ltx"\nfamily = "ltx"'
AUDIO: Final = '[models.audio]\npath = "audio"\nfamily = "stable_audio"'
GRAIN: Final = '[loras.grain]\npath = "grain"\nfamily = "sdxl"'
DEPTH: Final = '[controlnets.depth]\nhub = "someone/depth"\nrevision = "main"\nfamily = "sdxl"'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_there_are_the_built_in_models_alone() -> None:
    catalogue = load_catalogue(None)
    assert catalogue.models == BUILT_INS
    assert catalogue.find("") is BUILT_IN
    assert (catalogue.loras, catalogue.controlnets) == (BUILT_IN_LORAS, BUILT_IN_CONTROLNETS)


def test_every_family_has_one_built_in_model_and_tiny_random_is_that_of_sdxl() -> None:
    assert [model.family for model in BUILT_INS.values()] == list(Family)
    assert all(model.is_built_in and model.revision == "" for model in BUILT_INS.values())
    assert BUILT_IN.name == TINY_RANDOM
    assert BUILT_IN.family is Family.SDXL
    assert BUILT_INS["tiny-wan"] == built_in_model(Family.WAN)


@pytest.mark.parametrize("model", BUILT_INS.values(), ids=BUILT_INS)
def test_a_built_in_model_can_do_what_it_does_by_default(model: object) -> None:
    assert isinstance(model, type(BUILT_IN))
    model.check(
        width=model.default_width,
        height=model.default_height,
        frames=model.default_frames,
        duration=model.default_duration,
    )


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_has_a_built_in_default(mode: Mode) -> None:
    catalogue = load_catalogue(None)
    assert mode in catalogue.find("", mode=mode).modes


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
    assert set(catalogue.models) == {"film", "sdxl", *BUILT_INS}
    assert catalogue.find("", mode=Mode.INPAINT).name == "sdxl"


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'nope'; the catalogue has: film"):
        load_catalogue(written(tmp_path, LOCAL)).find("nope")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"it has no \[models.<name>\]"),
        ("models = 3", "^[^ ]*: models: must be a table"),
        ("colour = 1", "the file: unknown key 'colour'"),
        ("[models.x", "models.toml: "),
        (f"{LOCAL}\ncolour = 1", "models.film: unknown key 'colour'"),
        (f"{LOCAL}\n{HUB}", "default must name one of: film, sdxl"),
        (f'default = "nope"\n{LOCAL}', "default must name one of: film"),
        (f"default = 1\n{LOCAL}", "default: must be a text"),
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
        (LOCAL.replace('"sdxl"', '"sdxxl"'), "models.film.family: must be one of sd15, sdxl, "),
        (
            LOCAL.replace("width = 1024", "width = 1020"),
            "models.film.width: model film takes a width that is a multiple of 8; 1020 is not",
        ),
        (LOCAL.replace("width = 1024", "width = 32"), "a whole number from 64 to 2048"),
        (f"{LOCAL}\nmost_width = 512", "models.film.width: .* of at most 512; 1024 is more"),
        (f"{LOCAL}\nframes = 9", "models.film: unknown key 'frames'"),
        (f"{LOCAL}\nvae_tiling = 1", "models.film.vae_tiling: must be true or false"),
        (f'{LOCAL}\ndtype = "int8"', "models.film.dtype: has the form"),
        (f"{LOCAL}\ncompile = 1", "models.film.compile: must be a list of tables"),
        (f"{LOCAL}\ncompile = [1]", "models.film.compile.0.: must be a table"),
        (f"{LOCAL}\ncompile = [{'{},' * 17}]", "models.film.compile: must have at most 16 tables"),
        (f"{LOCAL}\ncompile = [{{}}, {{frames = 9}}]", "compile.1.: unknown key 'frames'"),
        (f"{LOCAL}\ncompile = [{{items = 65}}]", "compile.0..items: .* from 1 to 64"),
        (
            f"{LOCAL}\nmost_width = 1024\ncompile = [{{width = 1032}}]",
            "compile.0..width: model film takes a width of at most 1024; 1032 is more",
        ),
        (f"{WAN}\ncompile = [{{frames = 8}}]", "compile.0..frames: .* one more than a multiple"),
        (f"{AUDIO}\ncompile = [{{width = 64}}]", "compile.0.: unknown key 'width'"),
        (f"{WAN.replace('wan', 'vits')}\ncompile = [{{}}]", "unknown key 'compile'"),
        (f"{WAN.replace('wan', 'upscaler')}\ncompile = [{{}}]", "unknown key 'compile'"),
        (f"{WAN}\nframes = 8", "models.wan.frames: .* one more than a multiple of 4; 8 is not"),
        (f"{WAN.replace('wan', 'svd')}\nvae_tiling = true", "unknown key 'vae_tiling'"),
        (f"{WAN}\nsample_rate = 8000", "models.wan: unknown key 'sample_rate'"),
        (f"{AUDIO}\nwidth = 64", "models.audio: unknown key 'width'"),
        (f"{AUDIO}\nduration_seconds = 0", "a number from 0.1 to 3600"),
        (f"{AUDIO}\nmost_duration_seconds = 5", "models.audio.duration: .* at most 5 s"),
        (f"{WAN}\n{LTX}", "defaults.text_to_video must name one of: ltx, wan"),
        (f'{WAN}\n[defaults]\ntext_to_video = "film"', "must name one of: .*tiny-ltx"),
        (f'{WAN}\n[defaults]\npaint = "wan"', "defaults: unknown key 'paint'"),
        (f'default = "wan"\n{WAN}', "default must name one of: tiny-"),
        (f"tiny_models = 1\n{LOCAL}", "tiny_models: must be true or false"),
        (f"{LOCAL}\n{GRAIN.replace('sdxl', 'wan')}", "loras.grain.family: must be one of flux"),
        (f"{LOCAL}\n{GRAIN}\nleast_weight = -3", "loras.grain.least_weight: .* from -2 to 2"),
        (f"{LOCAL}\n{GRAIN}\nmost_weight = -3", "loras.grain.most_weight: .* from -2 to 2"),
        (f'{LOCAL}\n{GRAIN}\nfile = "../x.safetensors"', "loras.grain.file: has the form"),
        (f"{LOCAL}\n{GRAIN}\nscale = 1", "loras.grain: unknown key 'scale'"),
        (f"{LOCAL}\n{GRAIN.replace('grain', 'tiny-sdxl-lora')}", "is kept for the built-in"),
        (f"{LOCAL}\n{DEPTH.replace('sdxl', 'flux')}", "controlnets.depth.family: must be one of"),
        (f"{LOCAL}\n{DEPTH}\nfile = 1", "controlnets.depth: unknown key 'file'"),
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


def test_what_the_file_leaves_out_is_the_familys(tmp_path: Path) -> None:
    model = load_catalogue(written(tmp_path, WAN)).find("wan")
    traits = FAMILIES[Family.WAN]
    assert (model.default_width, model.default_height) == (traits.width, traits.height)
    assert (model.default_frames, model.default_frame_rate) == (traits.frames, traits.frame_rate)
    assert (model.default_steps, model.default_guidance_scale) == (50, 5.0)
    assert (model.dtype, model.vae_tiling, model.most_frames) == ("", False, 0)


def test_a_model_says_how_far_it_may_go_and_in_which_format(tmp_path: Path) -> None:
    more = 'dtype = "float16"\nvae_tiling = true\nmost_width = 1280\nmost_frames = 161'
    model = load_catalogue(written(tmp_path, f"{WAN}\n{more}")).find("wan")
    assert (model.dtype, model.vae_tiling) == ("float16", True)
    model.check(width=1280, height=2048, frames=161)
    with pytest.raises(ModelUnfit, match="takes a width of at most 1280; 1296 is more") as caught:
        model.check(width=1296)
    assert caught.value.field == "width"
    with pytest.raises(ModelUnfit, match="takes a height that is a multiple of 16; 63 is not"):
        model.check(height=63)
    with pytest.raises(ModelUnfit, match="takes a number of frames of at most 161") as caught:
        model.check(frames=165)
    assert caught.value.field == "frames"


def test_a_model_says_what_it_is_compiled_for(tmp_path: Path) -> None:
    shapes = "compile = [{}, {width = 1280, height = 720, frames = 33, items = 2}]"
    model = load_catalogue(written(tmp_path, f"{WAN}\n{shapes}")).find("wan")
    assert model.compile_shapes == (
        CompileShape(width=832, height=480, frames=81),
        CompileShape(width=1280, height=720, frames=33, items=2),
    )
    assert str(model.compile_shapes[1]) == "2 of 1280x720, 33 frames"
    sound = load_catalogue(written(tmp_path, f"{AUDIO}\ncompile = [{{}}]")).find("audio")
    assert [*map(str, sound.compile_shapes)] == ["1 of sound"]
    assert load_catalogue(written(tmp_path, WAN)).find("wan").compile_shapes == ()


def test_a_model_of_sound_has_a_longest_duration(tmp_path: Path) -> None:
    more = "duration_seconds = 2.5\nmost_duration_seconds = 47\nsample_rate = 48000"
    model = load_catalogue(written(tmp_path, f"{AUDIO}\n{more}")).find("audio")
    assert model.default_duration == timedelta(seconds=2.5)
    assert model.sample_rate == 48_000
    model.check(duration=timedelta(seconds=47))
    with pytest.raises(ModelUnfit, match="takes a duration of at most 47 s") as caught:
        model.check(duration=timedelta(seconds=48))
    assert caught.value.field == "duration"


def test_the_only_model_that_can_is_the_default_of_a_mode(tmp_path: Path) -> None:
    catalogue = load_catalogue(written(tmp_path, f"{LOCAL}\n{WAN}"))
    assert catalogue.find("").name == "film"
    assert catalogue.find("", mode=Mode.IMAGE_TO_IMAGE).name == "film"
    assert catalogue.find("", mode=Mode.TEXT_TO_VIDEO).name == "wan"
    # Neither of them can do these, so the built-in models do
    assert catalogue.find("", mode=Mode.IMAGE_TO_VIDEO).name == "tiny-ltx"
    assert catalogue.find("", mode=Mode.UPSCALE).name == "tiny-upscaler"


def test_of_several_that_can_the_file_names_the_default(tmp_path: Path) -> None:
    named = '[defaults]\ntext_to_video = "wan"\nimage_to_video = "tiny-svd"'
    catalogue = load_catalogue(written(tmp_path, f"{WAN}\n{LTX}\n{named}"))
    assert catalogue.find("", mode=Mode.TEXT_TO_VIDEO).name == "wan"
    assert catalogue.find("", mode=Mode.IMAGE_TO_VIDEO).name == "tiny-svd"
    assert catalogue.find("").name == TINY_RANDOM


def test_a_model_that_cannot_do_a_mode_is_refused_with_those_that_can(tmp_path: Path) -> None:
    catalogue = load_catalogue(written(tmp_path, f"tiny_models = false\n{WAN}\n{LTX}{BOTH}"))
    with pytest.raises(ModelUnfit, match="model ltx cannot do video_to_video; these can: wan"):
        catalogue.find("ltx", mode=Mode.VIDEO_TO_VIDEO)


BOTH: Final = '\n[defaults]\ntext_to_video = "wan"'


def test_without_the_built_in_models_a_mode_may_have_none(tmp_path: Path) -> None:
    text = f"tiny_models = false\n{WAN}\n{GRAIN}"
    catalogue = load_catalogue(written(tmp_path, text))
    assert (set(catalogue.models), set(catalogue.loras)) == ({"wan"}, {"grain"})
    assert catalogue.controlnets == {}
    with pytest.raises(ModelUnfit, match="no model of the catalogue can do upscale"):
        catalogue.find("", mode=Mode.UPSCALE)
    with pytest.raises(UnknownModel):
        catalogue.find("")


def test_a_lora_bears_on_models_of_its_family_within_its_weights(tmp_path: Path) -> None:
    bounds = 'file = "grain.safetensors"\nleast_weight = 0.25\nmost_weight = 1'
    catalogue = load_catalogue(written(tmp_path, f"{LOCAL}\n{GRAIN}\n{bounds}"))
    lora = catalogue.find_lora("grain", model=catalogue.find("film"))
    assert lora == Lora(
        name="grain",
        path=tmp_path / "grain",
        family=Family.SDXL,
        file="grain.safetensors",
        least_weight=0.25,
        most_weight=1.0,
    )
    lora.check_weight(1.0)
    with pytest.raises(ModelUnfit, match=r"takes a weight from 0\.25 to 1") as caught:
        lora.check_weight(0.0)
    assert caught.value.field == "weight"
    with pytest.raises(ModelUnfit, match="LoRA grain is for models of the family sdxl; tiny-sd15"):
        catalogue.find_lora("grain", model=catalogue.find("tiny-sd15"))
    with pytest.raises(UnknownModel, match="there is no LoRA 'nope'; the catalogue has: grain"):
        catalogue.find_lora("nope", model=catalogue.find("film"))


def test_a_controlnet_is_for_models_of_its_family(tmp_path: Path) -> None:
    catalogue = load_catalogue(written(tmp_path, f"{LOCAL}\n{DEPTH}"))
    controlnet = catalogue.find_controlnet("depth", model=catalogue.find("film"))
    assert (controlnet.hub_id, controlnet.revision) == ("someone/depth", "main")
    with pytest.raises(ModelUnfit, match="is for models of the family sdxl"):
        catalogue.find_controlnet("depth", model=catalogue.find("tiny-flux"))
    with pytest.raises(UnknownModel, match="there is no ControlNet 'nope'"):
        catalogue.find_controlnet("nope", model=catalogue.find("film"))
