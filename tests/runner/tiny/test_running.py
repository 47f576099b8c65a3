"""Every built-in model, loaded and run by the libraries themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from callsheet.runner.tiny.folders import built_in_folder
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.families import Family
from callsheet.runtime.models import built_in_model

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

_IMAGES: Final = (Family.SD15, Family.SDXL, Family.SD3, Family.FLUX, Family.FLUX_KONTEXT)
_WORDY: Final = (*_IMAGES, Family.LTX, Family.WAN, Family.ANIMATEDIFF, Family.STABLE_AUDIO)
_FROM_IMAGES: Final = (Family.FLUX_KONTEXT, Family.WAN_I2V, Family.SVD, Family.UPSCALER)
_DENOISING: Final = tuple(dict.fromkeys((*_WORDY, *_FROM_IMAGES)))


@pytest.fixture(scope="module")
def loaded(diffusers: Untyped, cache_dir: Path) -> Mapping[Family, Untyped]:
    """The pipeline of each family that denoises."""
    pipelines: dict[Family, Untyped] = {}
    for family in _DENOISING:
        folder = built_in_folder(built_in_model(family).name, cache_dir=cache_dir)
        pipelines[family] = load(diffusers, folder)
    return pipelines


def load(diffusers: Untyped, folder: Path) -> Untyped:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(shade: int = 128, *, side: int = 64) -> Untyped:
    """Return a square image."""
    return imported("PIL.Image").new("RGB", (side, side), (shade, 64, 255 - shade))


def rendered(pipeline: Untyped, family: Family, prompt: str = "a fox", **more: object) -> Untyped:
    """Return what two steps make, as numbers."""
    model = built_in_model(family)
    arguments: dict[str, object] = {"prompt": prompt, "num_inference_steps": 2}
    arguments["generator"] = imported("torch").Generator("cpu").manual_seed(1)
    if model.default_width:
        arguments |= {"width": 64, "height": 64}
    if model.default_frames:
        arguments["num_frames"] = model.default_frames
    if family in _FROM_IMAGES:
        arguments["image"] = picture(side=side_of(family))
    if family is Family.FLUX_KONTEXT:
        arguments |= {"max_area": 64 * 64, "_auto_resize": False}
    if family is Family.SVD:
        del arguments["prompt"]
    if family is Family.STABLE_AUDIO:
        arguments["audio_end_in_s"] = model.default_duration.total_seconds()
    kind = "pt" if family is Family.STABLE_AUDIO else "np"
    made = pipeline(**{**arguments, "output_type": kind, **more})
    numpy = imported("numpy")
    for name in ("images", "frames", "audios"):
        if hasattr(made, name):
            return numpy.asarray(getattr(made, name))
    raise AssertionError(made)


def side_of(family: Family) -> int:
    """Return the side of the image that a family starts from."""
    return 32 if family is Family.UPSCALER else 64


def shape_of(family: Family) -> tuple[int, ...]:
    model = built_in_model(family)
    if family is Family.STABLE_AUDIO:
        return (1, 2, model.sample_rate)
    if family is Family.UPSCALER:
        side = side_of(family) * model.traits.factor
        return (1, side, side, 3)
    frames = (model.default_frames,) if model.default_frames else ()
    return (1, *frames, 64, 64, 3)


@pytest.mark.parametrize("family", _DENOISING)
def test_a_family_makes_something_of_the_size_that_is_asked_for_twice_the_same(
    loaded: Mapping[Family, Untyped], family: Family
) -> None:
    made = rendered(loaded[family], family)
    assert made.shape == shape_of(family)
    assert imported("numpy").isfinite(made).all()
    assert made.std() > 0
    again = rendered(loaded[family], family)
    assert (made == again).all()


@pytest.mark.parametrize("family", _WORDY)
def test_other_words_make_something_else(loaded: Mapping[Family, Untyped], family: Family) -> None:
    fox, sea = (rendered(loaded[family], family, words) for words in ("a fox", "the wild sea"))
    assert (fox != sea).any()


@pytest.mark.parametrize("family", _FROM_IMAGES)
def test_another_image_makes_something_else(
    loaded: Mapping[Family, Untyped], family: Family
) -> None:
    pictures = [picture(shade, side=side_of(family)) for shade in (0, 250)]
    ours, theirs = (rendered(loaded[family], family, image=each) for each in pictures)
    assert (ours != theirs).any()


def test_the_voice_speaks_letters_and_longer_texts_last_longer(
    diffusers: Untyped, cache_dir: Path
) -> None:
    torch, transformers = imported("torch"), imported("transformers")
    folder = built_in_folder("tiny-vits", cache_dir=cache_dir)
    voice = transformers.VitsModel.from_pretrained(folder, use_safetensors=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert voice.config.sampling_rate == built_in_model(Family.VITS).sample_rate

    def spoken(words: str) -> Untyped:
        torch.manual_seed(0)
        with torch.inference_mode():
            return voice(**tokenizer(words, return_tensors="pt")).waveform[0]

    brief, long = spoken("Hi."), spoken("Hello, this is a much longer text.")
    assert 0 < len(brief) < len(long)
    assert torch.isfinite(long).all()
    assert float(long.std()) > 0
    assert torch.equal(spoken("Hi."), brief)


@pytest.mark.parametrize("family", [Family.SD15, Family.SDXL])
def test_the_lora_changes_what_is_drawn_and_leaves_no_trace(
    diffusers: Untyped, cache_dir: Path, family: Family
) -> None:
    pipeline = load(diffusers, built_in_folder(built_in_model(family).name, cache_dir=cache_dir))
    plain = rendered(pipeline, family)
    pipeline.load_lora_weights(
        built_in_folder(f"tiny-{family}-lora", cache_dir=cache_dir), adapter_name="tiny"
    )
    changed = rendered(pipeline, family)
    pipeline.set_adapters(["tiny"], [0.5])
    half = rendered(pipeline, family)
    pipeline.unload_lora_weights()
    assert (changed != plain).any()
    assert (half != plain).any()
    assert (half != changed).any()
    assert (rendered(pipeline, family) == plain).all()


@pytest.mark.parametrize(
    ("family", "class_name"),
    [
        (Family.SD15, "StableDiffusionControlNetPipeline"),
        (Family.SDXL, "StableDiffusionXLControlNetPipeline"),
    ],
)
def test_the_controlnet_follows_its_image(
    diffusers: Untyped,
    loaded: Mapping[Family, Untyped],
    cache_dir: Path,
    family: Family,
    class_name: str,
) -> None:
    controlnet = diffusers.ControlNetModel.from_pretrained(
        built_in_folder(f"tiny-{family}-controlnet", cache_dir=cache_dir), use_safetensors=True
    )
    pipeline = getattr(diffusers, class_name).from_pipe(loaded[family], controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    ours, theirs = (rendered(pipeline, family, image=picture(shade)) for shade in (0, 250))
    free = rendered(pipeline, family, image=picture(0), controlnet_conditioning_scale=0.0)
    assert (ours != theirs).any()
    assert (free == rendered(loaded[family], family)).all()
