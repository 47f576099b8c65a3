"""How models run on a device: what the settings ask for, what a device refuses, what is done."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from callsheet.runner.attention import BACKENDS, Attention
from callsheet.runner.context import HandlerFailure
from callsheet.runner.models import main
from callsheet.runner.rendering import Rendered
from callsheet.runner.stop_gate import StopGate
from callsheet.runner.tuning import Tuner, Tuning, TuningRefused
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.device_settings import AttentionName
from callsheet.runtime.families import Family
from callsheet.runtime.models import CompileShape, Model
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings
from tests.support.rendering import (
    MODES,
    Controls,
    Slot,
    built_in,
    contents,
    furthest,
    request_of,
)
from tests.support.stages import Stage
from tests.support.tuning import NAME, CountingCompiler, film, tuned_pipelines

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def asked() -> Settings:
    """Return settings that ask for everything."""
    return Settings(
        dtype="float16", attention="native_flash", channels_last=True, compile="regional"
    )


class Cuda:
    """torch on a device that computes in bfloat16, or does not."""

    def __init__(self, *, has_bfloat16: bool) -> None:
        self.cuda = self
        self.has_bfloat16 = has_bfloat16

    def is_bf16_supported(self, *, including_emulation: bool) -> bool:
        """What is only imitated does not count."""
        return self.has_bfloat16 or including_emulation


def rendered(model: Model, tuning: Tuning, cache_dir: Path, slot: Slot | None = None) -> Rendered:
    pipelines = tuned_pipelines(model, tuning=tuning, cache_dir=cache_dir)
    return pipelines.get(NAME).render(request_of(model.family, MODES[model.family]), Controls(slot))


def usual(stage: Stage, family: Family) -> Rendered:
    return stage.usual(family, MODES[family]).rendered


def test_on_the_cpu_nothing_is_tuned(tmp_path: Path) -> None:
    assert Tuning.of(asked(), device="cpu", cache_dir=tmp_path) == Tuning()


def test_on_a_device_everything_is_that_the_settings_say(tmp_path: Path) -> None:
    assert Tuning.of(asked(), device="cuda:1", cache_dir=tmp_path) == Tuning(
        dtype="float16",
        attention="native_flash",
        channels_last=True,
        compiler="inductor",
        compiler_cache=tmp_path / "compiled",
    )
    plain = Tuning.of(Settings(), device="cuda:1", cache_dir=tmp_path)
    assert (plain.compiler, plain.must_be_tried) == (None, False)


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_the_number_format_is_the_one_that_the_device_computes_in(
    has_bfloat16: bool,  # noqa: FBT001 - pytest gives it by name
    dtype: str,
) -> None:
    tuner = Tuner(Tuning(), torch=Cuda(has_bfloat16=has_bfloat16), device="cuda:0")
    assert tuner.dtype == dtype


def test_a_number_format_that_the_device_would_only_imitate_is_refused() -> None:
    torch = Cuda(has_bfloat16=False)
    with pytest.raises(TuningRefused, match="CALLSHEET_DTYPE: cuda:0 does not compute in bfloat16"):
        Tuner(Tuning(dtype="bfloat16"), torch=torch, device="cuda:0")
    assert Tuner(Tuning(dtype="float32"), torch=torch, device="cuda:0").dtype == "float32"


def test_every_name_of_attention_is_one_of_diffusers() -> None:
    known = imported("diffusers.models.attention_dispatch").AttentionBackendName
    assert BACKENDS.keys() == {*get_args(AttentionName)}
    assert {*BACKENDS.values()} <= {each.value for each in known}


def test_attention_that_the_device_cannot_compute_is_refused_with_the_reason() -> None:
    with pytest.raises(TuningRefused, match=r"flash cannot be computed on cpu.*flash-attn") as told:
        Tuner(Tuning(attention="flash"), torch=imported("torch"), device="cpu")
    assert "\n" not in str(told.value)


def test_a_runner_of_a_device_that_refuses_its_settings_says_so_before_any_task(
    tmp_path: Path,
) -> None:
    model = built_in(Family.FLUX)
    pipelines = tuned_pipelines(model, tuning=Tuning(attention="sage"), cache_dir=tmp_path)
    with pytest.raises(TuningRefused, match="CALLSHEET_ATTENTION: sage"):
        pipelines.warm_up()


def test_the_command_that_loads_models_refuses_such_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache_dir: Path
) -> None:
    monkeypatch.setenv("CALLSHEET_CACHE_DIR", str(cache_dir))

    def as_on_a_device(*_: object, **__: object) -> Tuning:
        return Tuning(attention="xformers")

    monkeypatch.setattr(Tuning, "of", as_on_a_device)
    assert main(["warm", "tiny-random"]) == EXIT_SETTINGS_REFUSED
    assert "CALLSHEET_ATTENTION: xformers cannot be computed on cpu" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_told_to_the_attempt_that_needs_it(cache_dir: Path) -> None:
    pipelines = tuned_pipelines(
        film(Family.SDXL, CompileShape(width=64, height=64), cache_dir=cache_dir),
        tuning=Tuning(compiler=CountingCompiler()),
        cache_dir=cache_dir,
        device="cuda:7",
    )
    pipelines.warm_up(limit=timedelta(minutes=1))
    with pytest.raises(HandlerFailure, match="there is no device cuda:7 here"):
        pipelines.get(NAME)


def test_attention_is_computed_as_chosen_where_the_model_lets_it(
    stage: Stage, cache_dir: Path
) -> None:
    tuning = Tuning(attention="native_math")
    flux = rendered(film(Family.FLUX, cache_dir=cache_dir), tuning, cache_dir)
    assert flux.tuning["attention"] == "native_math"
    assert furthest(flux, usual(stage, Family.FLUX)) <= 1
    # A UNet does not
    sdxl = rendered(film(Family.SDXL, cache_dir=cache_dir), tuning, cache_dir)
    assert sdxl.tuning["attention"] == "native"
    assert contents(sdxl) == contents(usual(stage, Family.SDXL))


def test_what_is_chosen_for_one_model_is_not_chosen_for_another(
    stage: Stage, cache_dir: Path
) -> None:
    before = contents(usual(stage, Family.FLUX))
    rendered(film(Family.FLUX, cache_dir=cache_dir), Tuning(attention="native_math"), cache_dir)
    again = stage.render(Family.FLUX, request_of(Family.FLUX, MODES[Family.FLUX]))
    assert contents(again) == before
    assert again.tuning["attention"] == "native"


def test_a_kernel_that_takes_no_mask_is_left_out_of_models_that_need_one(
    stage: Stage, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(self: Attention, *, masked: bool = False) -> str | None:
        return "it takes no mask" if masked else None

    monkeypatch.setattr(Attention, "refusal", refusal)
    ltx = rendered(film(Family.LTX, cache_dir=cache_dir), Tuning(attention="flash"), cache_dir)
    assert ltx.tuning["attention"] == "native"
    assert contents(ltx) == contents(usual(stage, Family.LTX))


def parts(family: Family, tuning: Tuning, cache_dir: Path) -> Mapping[str, Untyped]:
    """Return the convolving parts of a model, tuned."""
    model = film(family, cache_dir=cache_dir)
    pipeline = imported("diffusers").DiffusionPipeline.from_pretrained(model.path)
    Tuner(tuning, torch=imported("torch"), device="cpu").tuned(model, pipeline, gate=StopGate())
    return {"unet": pipeline.unet, "vae": pipeline.vae}


def has_channels_last(part: Untyped) -> bool:
    """Tell it by the first large enough weight of a convolution."""
    layout = imported("torch").channels_last
    weights = (each for each in part.parameters() if each.dim() == 4 and each.shape[-1] > 1)
    return bool(next(weights).is_contiguous(memory_format=layout))


def test_unets_and_autoencoders_keep_channels_last_if_they_are_to(cache_dir: Path) -> None:
    usual = parts(Family.SDXL, Tuning(), cache_dir)
    assert not any(map(has_channels_last, usual.values()))
    tuning = Tuning(channels_last=True)
    assert all(map(has_channels_last, parts(Family.SDXL, tuning, cache_dir).values()))
    # Over frames there is another order
    assert not any(map(has_channels_last, parts(Family.SVD, tuning, cache_dir).values()))


def test_an_image_with_channels_last_is_the_same_to_within_rounding_and_goes_on_bit_for_bit(
    stage: Stage, cache_dir: Path
) -> None:
    sdxl, tuning = film(Family.SDXL, cache_dir=cache_dir), Tuning(channels_last=True)
    saved = Slot(due=lambda asked: asked == 2)
    whole = rendered(sdxl, tuning, cache_dir, saved)
    assert whole.tuning["memory_format"] == "channels_last"
    assert furthest(whole, usual(stage, Family.SDXL)) <= 1
    resumed = Slot(saved.content)
    assert contents(rendered(sdxl, tuning, cache_dir, resumed)) == contents(whole)
    assert resumed.refusals == []
    # A state of it is of no use where channels are elsewhere
    other = Slot(saved.content)
    rendered(sdxl, Tuning(), cache_dir, other)
    assert other.refusals == ["the checkpoint is of another model, input, device or library"]
