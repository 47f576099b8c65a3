"""Which files of the catalogue's models are on this machine, and how they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from callsheet.runtime.hub_cache import snapshot_folder
from callsheet.runtime.model_files import ModelFiles, adapter_files, pipeline_files
from callsheet.runtime.models import Catalogue, ControlNet, Lora, Model, UnknownModel

Entry = Model | Lora | ControlNet


class FilesState(StrEnum):
    """How the files of an entry of the catalogue are."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    """Something is missing, cut off, or would not be loaded."""
    NOT_BUILT = "not_built"
    """It is built in, and was not needed here yet."""
    NOT_FETCHED = "not_fetched"
    """It is on the hub, and was not needed here yet."""


@dataclass(frozen=True)
class InventoryItem:
    """One entry of the catalogue, and its files."""

    entry: Entry
    state: FilesState
    files: ModelFiles | None
    """None: there are none yet."""

    @property
    def kind(self) -> str:
        """What it is: model, lora or controlnet."""
        return type(self.entry).__name__.lower()


def built_in_path(name: str, *, cache_dir: Path) -> Path:
    """Return where the files of a built-in model are, or will be."""
    return cache_dir / "models" / name


def entries_named(catalogue: Catalogue, names: Sequence[str]) -> list[Entry]:
    """Return the entries of those names, or all of them for none. Raises UnknownModel."""
    known = {entry.name: entry for entry in _entries(catalogue)}
    for name in names:
        if name not in known:
            raise UnknownModel(name, known=known)
    return [known[name] for name in names] or list(known.values())


def inventory_item(entry: Entry, *, cache_dir: Path) -> InventoryItem:
    """Return how the files of an entry are; of weights, the heads alone are read."""
    folder = entry.path
    absent = FilesState.DAMAGED
    if entry.is_built_in:
        built = built_in_path(entry.name, cache_dir=cache_dir)
        folder, absent = built if built.is_dir() else None, FilesState.NOT_BUILT
    elif entry.hub_id is not None:
        folder = snapshot_folder(entry.hub_id, entry.revision)
        absent = FilesState.NOT_FETCHED
    if folder is None:
        return InventoryItem(entry, absent, files=None)
    is_lora = isinstance(entry, Lora)
    files = adapter_files(folder, file=entry.file) if is_lora else pipeline_files(folder)
    state = FilesState.WHOLE if files.is_whole else FilesState.DAMAGED
    return InventoryItem(entry, state, files)


def _entries(catalogue: Catalogue) -> Iterator[Entry]:
    yield from catalogue.models.values()
    yield from catalogue.loras.values()
    yield from catalogue.controlnets.values()
