"""The catalogue's TOML file: what it may say, and what an unset key means."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypedDict

from callsheet.runtime.families import FAMILIES, Family, Medium, Mode, Traits
from callsheet.runtime.models import (
    BUILT_IN_CONTROLNETS,
    BUILT_IN_LORAS,
    BUILT_INS,
    TINY_RANDOM,
    AgreementModel,
    Catalogue,
    CompileShape,
    ControlNet,
    Lora,
    Model,
    ModelUnfit,
)
from callsheet.runtime.toml_table import CatalogueInvalid, TomlTable

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_DTYPE: Final = re.compile(r"float32|bfloat16|float16")
_WEIGHTS: Final = re.compile(r"[\w-][\w.-]{0,120}\.safetensors")
_KEPT: Final = BUILT_INS.keys() | BUILT_IN_LORAS.keys() | BUILT_IN_CONTROLNETS.keys()

_FILE: Final = frozenset(
    {"default", "defaults", "models", "loras", "controlnets", "agreement", "tiny_models"}
)
_SOURCE: Final = frozenset({"path", "hub", "revision"})
_MODEL: Final = _SOURCE | {"family", "dtype"}
_STEPS: Final = frozenset({"steps", "guidance_scale"})
_PICTURES: Final = frozenset({"width", "height", "most_width", "most_height"})
_FRAMES: Final = frozenset({"frames", "frame_rate", "most_frames"})
_SOUND: Final = frozenset({"duration_seconds", "most_duration_seconds", "sample_rate"})
_LORA: Final = _SOURCE | {"family", "file", "least_weight", "most_weight"}
_CONTROLNET: Final = _SOURCE | {"family"}
#: More would be hours of compiling before a runner is ready.
_MOST_SHAPES: Final = 16
_MOST_ITEMS: Final = 64


class _Origin(TypedDict):
    path: Path | None
    hub_id: str | None
    revision: str


def load_catalogue(path: Path | None) -> Catalogue:
    """Return the catalogue of a TOML file; without a file, the built-in models alone.

    Raises CatalogueInvalid when the file cannot be read, or says anything that has no meaning.
    """
    if path is None:
        return Catalogue(
            BUILT_INS,
            default=TINY_RANDOM,
            defaults=MappingProxyType(_built_in_defaults()),
            loras=BUILT_IN_LORAS,
            controlnets=BUILT_IN_CONTROLNETS,
        )
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise CatalogueInvalid(f"{path}: {error}") from error
    try:
        return _catalogue(TomlTable(tree, place=""), folder=path.parent)
    except CatalogueInvalid as error:
        raise CatalogueInvalid(f"{path}: {error}") from error


def _catalogue(tree: TomlTable, *, folder: Path) -> Catalogue:
    tree.refuse_others(_FILE)
    own = {model.name: model for model in _models(tree.table("models"), folder=folder)}
    if not own:
        raise CatalogueInvalid("it has no [models.<name>]")
    with_tiny = tree.flag("tiny_models", default=True)
    models = {**own, **(BUILT_INS if with_tiny else {})}
    default = _default(tree, own=own, models=models)
    loras = {lora.name: lora for lora in _loras(tree.table("loras"), folder=folder)}
    controlnets = {
        controlnet.name: controlnet
        for controlnet in _controlnets(tree.table("controlnets"), folder=folder)
    }
    return Catalogue(
        MappingProxyType(models),
        default=default,
        agreement=_agreement(tree, folder),
        defaults=MappingProxyType(_defaults(tree, own=own, models=models, default=default)),
        loras=MappingProxyType({**loras, **(BUILT_IN_LORAS if with_tiny else {})}),
        controlnets=MappingProxyType(
            {**controlnets, **(BUILT_IN_CONTROLNETS if with_tiny else {})}
        ),
    )


def _built_in_defaults() -> dict[Mode, str]:
    """Return for each mode the first built-in model that can do it, tiny-random before all."""
    names = (TINY_RANDOM, *BUILT_INS)
    return {mode: _first_able(mode, (BUILT_INS[name] for name in names)) for mode in Mode}


def _first_able(mode: Mode, models: Iterable[Model]) -> str:
    return next((model.name for model in models if mode in model.modes), "")


def _default(tree: TomlTable, *, own: Mapping[str, Model], models: Mapping[str, Model]) -> str:
    able = _able(Mode.TEXT_TO_IMAGE, own) or _able(Mode.TEXT_TO_IMAGE, models)
    if "default" in tree:
        name = tree.text("default")
        if name not in _able(Mode.TEXT_TO_IMAGE, models):
            raise CatalogueInvalid(f"default must name one of: {', '.join(able)}")
        return name
    if len(_able(Mode.TEXT_TO_IMAGE, own)) > 1:
        raise CatalogueInvalid(f"default must name one of: {', '.join(able)}")
    if own_able := _able(Mode.TEXT_TO_IMAGE, own):
        return own_able[0]
    return TINY_RANDOM if TINY_RANDOM in models else ""


def _able(mode: Mode, models: Mapping[str, Model]) -> list[str]:
    return sorted(name for name, model in models.items() if mode in model.modes)


def _defaults(
    tree: TomlTable, *, own: Mapping[str, Model], models: Mapping[str, Model], default: str
) -> dict[Mode, str]:
    """Return the default of every mode; empty where the catalogue has nothing for it.

    The one that is named; else the default of images, when it can; else the only one that can; else
    the built-in one. Of several that can, none is guessed.
    """
    named = tree.table("defaults")
    named.refuse_others({mode.value for mode in Mode})
    tiny = _built_in_defaults()
    found: dict[Mode, str] = {}
    for mode in Mode:
        able = _able(mode, own)
        if mode in named:
            found[mode] = named.text(mode)
            if found[mode] not in _able(mode, models):
                raise CatalogueInvalid(
                    f"defaults.{mode} must name one of: {', '.join(_able(mode, models))}"
                )
        elif default in able:
            found[mode] = default
        elif len(able) > 1:
            raise CatalogueInvalid(f"defaults.{mode} must name one of: {', '.join(able)}")
        elif able:
            found[mode] = able[0]
        else:
            found[mode] = tiny[mode] if tiny[mode] in models else ""
    return found


def _agreement(tree: TomlTable, folder: Path) -> AgreementModel | None:
    if "agreement" not in tree:
        return None
    table = tree.table("agreement")
    table.refuse_others(_SOURCE)
    return AgreementModel(**_origin(table, folder=folder))


def _models(tables: TomlTable, *, folder: Path) -> Iterable[Model]:
    for name in tables:
        yield _model(_checked_name(name, place=tables.place), tables.table(name), folder=folder)


def _model(name: str, table: TomlTable, *, folder: Path) -> Model:
    family = table.choice("family", Family)
    traits = FAMILIES[family]
    table.refuse_others(_keys_of(traits))
    model = Model(
        name=name,
        **_origin(table, folder=folder),
        family=family,
        dtype=table.text("dtype", form=_DTYPE) if "dtype" in table else "",
        vae_tiling=table.flag("vae_tiling", default=False),
        default_width=_if(traits.width, table, "width", least=64, most=2048),
        default_height=_if(traits.height, table, "height", least=64, most=2048),
        default_steps=_if(traits.steps, table, "steps", least=1, most=150),
        default_guidance_scale=table.number(
            "guidance_scale", least=0, most=30, default=traits.guidance_scale
        ),
        default_frames=_if(traits.frames, table, "frames", least=1, most=2_000),
        default_frame_rate=_if(traits.frame_rate, table, "frame_rate", least=1, most=120),
        default_duration=_seconds(table, "duration_seconds", default=traits.duration),
        sample_rate=_if(traits.sample_rate, table, "sample_rate", least=8_000, most=192_000),
        most_width=_most(table, "most_width", most=16_384),
        most_height=_most(table, "most_height", most=16_384),
        most_frames=_most(table, "most_frames", most=10_000),
        most_duration=_seconds(table, "most_duration_seconds", default=timedelta()),
    )
    try:
        model.check(
            width=model.default_width,
            height=model.default_height,
            frames=model.default_frames,
            duration=model.default_duration,
        )
    except ModelUnfit as error:
        raise CatalogueInvalid(f"{table.place}.{error.field}: {error}") from error
    return replace(model, compile_shapes=tuple(_compile_shapes(table, model)))


def _compile_shapes(table: TomlTable, model: Model) -> Iterable[CompileShape]:
    known = {"items"}
    if model.default_width:
        known |= {"width", "height"}
    if model.default_frames:
        known |= {"frames"}
    for shape in table.tables("compile", most=_MOST_SHAPES):
        shape.refuse_others(known)
        found = CompileShape(
            width=_if(model.default_width, shape, "width", least=64, most=16_384),
            height=_if(model.default_height, shape, "height", least=64, most=16_384),
            frames=_if(model.default_frames, shape, "frames", least=1, most=10_000),
            items=shape.whole("items", least=1, most=_MOST_ITEMS, default=1),
        )
        try:
            model.check(width=found.width, height=found.height, frames=found.frames)
        except ModelUnfit as error:
            raise CatalogueInvalid(f"{shape.place}.{error.field}: {error}") from error
        yield found


def _keys_of(traits: Traits) -> frozenset[str]:
    """Return what the file may say of a model of the family."""
    known = _MODEL
    if traits.steps:
        known |= _STEPS
    if traits.width or Mode.UPSCALE in traits.modes:
        known |= _PICTURES
        if traits.decodes_tiles:
            known |= {"vae_tiling"}
    if traits.frames:
        known |= _FRAMES
    if traits.steps and (traits.width or traits.duration):
        known |= {"compile"}
    if traits.medium is Medium.AUDIO:
        known |= _SOUND if traits.duration else {"sample_rate"}
    return known


def _loras(tables: TomlTable, *, folder: Path) -> Iterable[Lora]:
    able = {family for family, traits in FAMILIES.items() if traits.takes_loras}
    for name in tables:
        table = tables.table(_checked_name(name, place=tables.place))
        table.refuse_others(_LORA)
        least = table.number("least_weight", least=-2, most=2, default=-2)
        yield Lora(
            name=name,
            **_origin(table, folder=folder),
            family=_family(table, able=able),
            file=table.text("file", form=_WEIGHTS) if "file" in table else "",
            least_weight=least,
            most_weight=table.number("most_weight", least=least, most=2, default=2),
        )


def _controlnets(tables: TomlTable, *, folder: Path) -> Iterable[ControlNet]:
    able = {family for family, traits in FAMILIES.items() if traits.takes_controlnets}
    for name in tables:
        table = tables.table(_checked_name(name, place=tables.place))
        table.refuse_others(_CONTROLNET)
        yield ControlNet(
            name=name, **_origin(table, folder=folder), family=_family(table, able=able)
        )


def _family(table: TomlTable, *, able: set[Family]) -> Family:
    family = table.choice("family", Family)
    if family not in able:
        known = ", ".join(sorted(able))
        raise CatalogueInvalid(f"{table.place}.family: must be one of {known}")
    return family


def _checked_name(name: str, *, place: str) -> str:
    if not _NAME.fullmatch(name):
        raise CatalogueInvalid(f"{place}.{name}: a name has the form {_NAME.pattern}")
    if name in _KEPT:
        raise CatalogueInvalid(f"{place}.{name}: this name is kept for the built-in model")
    return name


def _origin(table: TomlTable, *, folder: Path) -> _Origin:
    if ("path" in table) == ("hub" in table):
        raise CatalogueInvalid(f"{table.place}: give either path or hub")
    if "path" in table:
        if "revision" in table:
            raise CatalogueInvalid(f"{table.place}.revision: a local folder has no revision")
        return _Origin(path=folder.absolute() / table.text("path"), hub_id=None, revision="")
    if "revision" not in table:
        raise CatalogueInvalid(f"{table.place}.revision: a model of the hub needs one")
    hub_id = table.text("hub", form=_HUB_ID)
    return _Origin(path=None, hub_id=hub_id, revision=table.text("revision"))


def _if(default: int, table: TomlTable, key: str, *, least: int, most: int) -> int:
    """Return the number, or 0 when the family has no such thing, and so no default of it."""
    return table.whole(key, least=least, most=most, default=default) if default else 0


def _most(table: TomlTable, key: str, *, most: int) -> int:
    return table.whole(key, least=1, most=most, default=1) if key in table else 0


def _seconds(table: TomlTable, key: str, *, default: timedelta) -> timedelta:
    if key not in table:
        return default
    return timedelta(seconds=table.number(key, least=0.1, most=3600, default=0.1))
