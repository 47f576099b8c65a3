"""The folders of the built-in models, made where they are first used."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from callsheet.runner.tiny import adapters, audio, images, parts, videos
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.families import Family
from callsheet.runtime.model_inventory import built_in_path
from callsheet.runtime.models import BUILT_INS, ControlNet, Lora, Model

Save = Callable[[Path], None]

_SD15: Final = "StableDiffusionPipeline"
_SDXL: Final = "StableDiffusionXLPipeline"

_PIPELINES: Final[Mapping[Family, Callable[[], Untyped]]] = MappingProxyType(
    {
        Family.SD15: images.sd15,
        Family.SDXL: images.sdxl,
        Family.SD3: images.sd3,
        Family.FLUX: images.flux,
        Family.FLUX_KONTEXT: images.flux_kontext,
        Family.UPSCALER: images.upscaler,
        Family.LTX: videos.ltx,
        Family.WAN: videos.wan,
        Family.WAN_I2V: videos.wan_i2v,
        Family.ANIMATEDIFF: videos.animatediff,
        Family.SVD: videos.svd,
        Family.STABLE_AUDIO: audio.stable_audio,
    }
)


def _save_pipeline(folder: Path, *, build: Callable[[], Untyped]) -> None:
    build().save_pretrained(folder, safe_serialization=True)


def _save_of(family: Family) -> Save:
    if family is Family.VITS:
        return audio.save_speech
    return partial(_save_pipeline, build=_PIPELINES[family])


#: What saves each built-in model, LoRA and ControlNet into a folder.
SAVES: Final[Mapping[str, Save]] = MappingProxyType(
    {
        **{model.name: _save_of(model.family) for model in BUILT_INS.values()},
        "tiny-sd15-lora": partial(adapters.save_lora, unet=parts.sd_unet, pipeline_class=_SD15),
        "tiny-sdxl-lora": partial(adapters.save_lora, unet=parts.sdxl_unet, pipeline_class=_SDXL),
        "tiny-sd15-controlnet": partial(adapters.save_controlnet, unet=parts.sd_unet),
        "tiny-sdxl-controlnet": partial(adapters.save_controlnet, unet=parts.sdxl_unet),
    }
)


def folder_of(wanted: Model | Lora | ControlNet, *, cache_dir: Path) -> Path | None:
    """Return the folder of what the catalogue names, made when it is built in. None: on the hub."""
    if wanted.is_built_in:
        return built_in_folder(wanted.name, cache_dir=cache_dir)
    return wanted.path


def built_in_folder(name: str, *, cache_dir: Path) -> Path:
    """Return the folder of a built-in model, LoRA or ControlNet, made when it is not there.

    The same name gives the same bytes, whatever was made before. Two processes may make it at once:
    each makes its own folder, and the first rename wins. Raises KeyError for a name that is not
    built in.
    """
    save = SAVES[name]
    folder = built_in_path(name, cache_dir=cache_dir)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    torch = imported("torch")
    try:
        with torch.random.fork_rng(devices=[]):  # the weights must not depend on what ran before
            torch.manual_seed(0)
            save(unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
