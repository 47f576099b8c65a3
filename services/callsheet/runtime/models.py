"""The catalogue of models: the closed list of what tasks may name, and where each comes from."""

import re
import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

TINY_RANDOM: Final = "tiny-random"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FAMILY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
#: The built-in weights are drawn from a fixed seed; the number grows when they are made otherwise.
_BUILT_IN_PIN: Final = "built-in-1"
_SOURCE: Final = frozenset({"path", "hub", "revision"})
_DEFAULTS: Final = frozenset({"family", "width", "height", "steps", "guidance_scale"})


class CatalogueInvalid(ValueError):
    """The catalogue's file cannot be used; the message names the place and the reason."""


class UnknownModel(LookupError):
    """The catalogue has no model of that name."""

    def __init__(self, name: str, *, known: AbstractSet[str]) -> None:
        names = ", ".join(sorted(known))
        super().__init__(f"there is no model {name!r}; the catalogue has: {names}")
        self.name, self.known = name, known


@dataclass(frozen=True)
class Model:
    """One model: where its files are, and what is used when a task does not say."""

    name: str
    path: Path | None
    """The local folder. None: it comes from the hub, or is built in."""
    hub_id: str | None
    """The repository on the hub. None: it is a local folder, or is built in."""
    revision: str
    """The hub revision. Empty: a local folder or a built-in model, which have none."""
    family: str
    default_width: int
    default_height: int
    default_steps: int
    default_guidance_scale: float

    @property
    def is_built_in(self) -> bool:
        """Whether the runner makes the model itself, with random weights."""
        return self.path is None and self.hub_id is None

    @property
    def pin(self) -> str:
        """What names the model's weights for good. Empty: nothing does, so they may change.

        A commit of the hub does, and a branch or a tag does not; nor does a local folder.
        """
        if self.is_built_in:
            return _BUILT_IN_PIN
        return f"{self.hub_id}@{self.revision}" if _COMMIT.fullmatch(self.revision) else ""


BUILT_IN: Final = Model(
    name=TINY_RANDOM,
    path=None,
    hub_id=None,
    revision="",
    family="sdxl",
    default_width=64,
    default_height=64,
    default_steps=8,
    default_guidance_scale=5.0,
)


@dataclass(frozen=True)
class AgreementModel:
    """The model that tells how well an image agrees with its prompt: a CLIP."""

    path: Path | None
    """The local folder. None: it comes from the hub."""
    hub_id: str | None
    """The repository on the hub. None: it is a local folder."""
    revision: str
    """The hub revision. Empty: a local folder, which has none."""


@dataclass(frozen=True)
class Catalogue:
    """The models a task may name."""

    models: Mapping[str, Model]
    default: str
    agreement: AgreementModel | None = None
    """What scores images by their prompts. None: nothing does."""

    def find(self, name: str) -> Model:
        """Return the model of that name, or the default for an empty one; raises UnknownModel."""
        model = self.models.get(name or self.default)
        if model is None:
            raise UnknownModel(name, known=self.models.keys())
        return model


def load_catalogue(path: Path | None) -> Catalogue:
    """Return the catalogue of a TOML file; without a file, only the built-in tiny-random.

    Raises CatalogueInvalid when the file cannot be read, or says anything that has no meaning.
    """
    if path is None:
        return Catalogue(MappingProxyType({TINY_RANDOM: BUILT_IN}), default=TINY_RANDOM)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise CatalogueInvalid(f"{path}: {error}") from error
    try:
        return _catalogue(tree, folder=path.parent)
    except CatalogueInvalid as error:
        raise CatalogueInvalid(f"{path}: {error}") from error


def _catalogue(tree: Mapping[str, object], *, folder: Path) -> Catalogue:
    _refuse_unknown(tree, known={"default", "models", "agreement"}, place="the file")
    tables = _table(tree.get("models", {}), place="models")
    if not tables:
        raise CatalogueInvalid("it has no [models.<name>]")
    models = {
        name: _model(name, _table(value, place=f"models.{name}"), folder=folder)
        for name, value in tables.items()
    }
    return Catalogue(
        MappingProxyType(models), default=_default(tree, models), agreement=_agreement(tree, folder)
    )


def _agreement(tree: Mapping[str, object], folder: Path) -> AgreementModel | None:
    if "agreement" not in tree:
        return None
    table = _table(tree["agreement"], place="agreement")
    _refuse_unknown(table, known=_SOURCE, place="agreement")
    path, hub_id, revision = _source(table, place="agreement", folder=folder)
    return AgreementModel(path=path, hub_id=hub_id, revision=revision)


def _default(tree: Mapping[str, object], models: Mapping[str, Model]) -> str:
    default = tree.get("default")
    if default is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(default, str) or default not in models:
        raise CatalogueInvalid(f"default must name one of: {', '.join(sorted(models))}")
    return default


def _model(name: str, table: Mapping[str, object], *, folder: Path) -> Model:
    place = f"models.{name}"
    if not _NAME.fullmatch(name):
        raise CatalogueInvalid(f"{place}: a name has the form {_NAME.pattern}")
    if name == TINY_RANDOM:
        raise CatalogueInvalid(f"{place}: this name is kept for the built-in model")
    _refuse_unknown(table, known=_SOURCE | _DEFAULTS, place=place)
    path, hub_id, revision = _source(table, place=place, folder=folder)
    return Model(
        name=name,
        path=path,
        hub_id=hub_id,
        revision=revision,
        family=_text(table, "family", form=_FAMILY, place=place),
        default_width=_pixels(table, "width", place=place),
        default_height=_pixels(table, "height", place=place),
        default_steps=_whole(table, "steps", least=1, most=150, place=place),
        default_guidance_scale=_guidance_scale(table, place=place),
    )


def _source(
    table: Mapping[str, object], *, place: str, folder: Path
) -> tuple[Path | None, str | None, str]:
    if ("path" in table) == ("hub" in table):
        raise CatalogueInvalid(f"{place}: give either path or hub")
    if "path" in table:
        if "revision" in table:
            raise CatalogueInvalid(f"{place}.revision: a local folder has no revision")
        return folder.absolute() / _text(table, "path", place=place), None, ""
    if "revision" not in table:
        raise CatalogueInvalid(f"{place}.revision: a model of the hub needs one")
    hub_id = _text(table, "hub", form=_HUB_ID, place=place)
    return None, hub_id, _text(table, "revision", place=place)


def _refuse_unknown(table: Mapping[str, object], *, known: AbstractSet[str], place: str) -> None:
    if unknown := sorted(table.keys() - known):
        raise CatalogueInvalid(f"{place}: unknown key {unknown[0]!r}")


def _table(value: object, *, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise CatalogueInvalid(f"{place}: must be a table")
    return cast("dict[str, object]", value)  # the keys of TOML tables are strings


def _text(
    table: Mapping[str, object], key: str, *, place: str, form: re.Pattern[str] | None = None
) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise CatalogueInvalid(f"{place}.{key}: must be a text that is not empty")
    if form is not None and not form.fullmatch(value):
        raise CatalogueInvalid(f"{place}.{key}: has the form {form.pattern}")
    return value


def _pixels(table: Mapping[str, object], key: str, *, place: str) -> int:
    value = _whole(table, key, least=64, most=2048, place=place)
    if value % 8:
        raise CatalogueInvalid(f"{place}.{key}: must be divisible by 8")
    return value


def _whole(table: Mapping[str, object], key: str, *, least: int, most: int, place: str) -> int:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise CatalogueInvalid(f"{place}.{key}: must be a whole number from {least} to {most}")
    return value


def _guidance_scale(table: Mapping[str, object], *, place: str) -> float:
    value = table.get("guidance_scale")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 30:
        raise CatalogueInvalid(f"{place}.guidance_scale: must be a number from 0 to 30")
    return float(value)
