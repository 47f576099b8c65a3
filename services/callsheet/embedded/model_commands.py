"""`callsheetd models`: the catalogue, its files, and what they need, shown without loading any."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.module_command import module_command
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.memory_needs import Estimate, default_shape, peak_bytes
from callsheet.runtime.model_files import ModelFiles
from callsheet.runtime.model_inventory import (
    FilesState,
    InventoryItem,
    entries_named,
    inventory_item,
)
from callsheet.runtime.models import Catalogue, Model, Origin, UnknownModel
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings
from callsheet.runtime.toml_table import CatalogueInvalid

EXIT_FOUND: Final = 1
_DTYPE: Final = "bfloat16"
_STATES: Final[Mapping[FilesState, str]] = {
    FilesState.WHOLE: "",
    FilesState.DAMAGED: "damaged: see `callsheetd models check`",
    FilesState.NOT_BUILT: "not built yet",
    FilesState.NOT_FETCHED: "not fetched yet",
}


def models_command(settings: Settings, asked: argparse.Namespace) -> int:
    """Do what the command line asks for, and return the exit code.

    Raises CommandRefused for a name that the catalogue does not have.
    """
    if asked.action in {"build-tiny", "warm"}:
        _become_runner(asked)
    try:
        catalogue = _as_served(load_catalogue(settings.models_file), settings)
    except CatalogueInvalid as error:
        print(f"callsheetd: CALLSHEET_MODELS: {error}", file=sys.stderr)
        return EXIT_SETTINGS_REFUSED
    try:
        entries = entries_named(catalogue, [] if asked.action == "list" else asked.name)
    except UnknownModel as error:
        raise CommandRefused(str(error)) from error
    items = [inventory_item(entry, cache_dir=settings.cache_dir) for entry in entries]
    if asked.action == "list":
        _list(items, catalogue, asked)
        return 0
    return _check(items, as_json=asked.json)


def _become_runner(asked: argparse.Namespace) -> None:
    """Replace this process by the runner's: torch is its alone."""
    words = [*(["--json"] if asked.json else []), asked.action, "--", *asked.name]
    command = module_command("runner.models", *words)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


def _list(items: list[InventoryItem], catalogue: Catalogue, asked: argparse.Namespace) -> None:
    if asked.json:
        print(json.dumps([_listed(item, catalogue, dtype=asked.dtype) for item in items]))
        return
    for item in items:
        print("  ".join(_row(item, catalogue, dtype=asked.dtype)).rstrip())


def _listed(item: InventoryItem, catalogue: Catalogue, *, dtype: str | None) -> dict[str, object]:
    entry, files = item.entry, item.files
    listed: dict[str, object] = {
        "name": entry.name,
        "kind": item.kind,
        "family": entry.family.value,
        "origin": _origin(entry),
        "revision": entry.revision,
        "state": item.state.value,
    }
    if files is not None:
        listed |= _weights(files)
    if isinstance(entry, Model):
        listed["modes"] = sorted(mode.value for mode in entry.modes)
        listed["default_of"] = _default_of(entry, catalogue)
        listed["compile"] = [str(shape) for shape in entry.compile_shapes]
        if files is not None and files.is_whole:
            need = _need(entry, files, dtype=dtype)
            listed["need"] = {
                "dtype": _dtype(entry, dtype),
                "weight_bytes": need.weights,
                "working_bytes": need.working,
                "peak_bytes": need.peak,
            }
    return listed


def _row(item: InventoryItem, catalogue: Catalogue, *, dtype: str | None) -> Iterator[str]:
    entry, files = item.entry, item.files
    yield f"{entry.name:<20}"
    yield f"{entry.family:<12}"
    yield f"{item.kind if item.kind != 'model' else '':<10}"
    if files is None or not files.is_whole:
        yield _STATES[item.state]
    else:
        yield f"{_count(sum(files.parameters.values())):>8} weights"
        yield f"{_bytes(files.size_bytes):>8} on disk"
        if isinstance(entry, Model):
            need = _need(entry, files, dtype=dtype)
            yield f"{_bytes(need.peak):>8} in {_dtype(entry, dtype)}"
    yield _origin(entry) + (f"@{entry.revision[:12]}" if entry.revision else "")
    if isinstance(entry, Model) and (modes := _default_of(entry, catalogue)):
        yield f"default of {', '.join(modes)}"


def _check(items: list[InventoryItem], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([_checked(item) for item in items]))
    else:
        for item in items:
            for line in _findings(item):
                print(f"{item.entry.name}: {line}")
    return EXIT_FOUND if any(item.state is FilesState.DAMAGED for item in items) else 0


def _checked(item: InventoryItem) -> dict[str, object]:
    files = item.files
    checked: dict[str, object] = {
        "name": item.entry.name,
        "kind": item.kind,
        "state": item.state.value,
        "damages": [],
    }
    if files is not None:
        checked |= _weights(files)
        checked["folder"] = str(files.folder)
        checked["damages"] = [
            {"file": damage.file, "problem": damage.problem} for damage in files.damages
        ]
    return checked


def _findings(item: InventoryItem) -> Iterator[str]:
    files = item.files
    if files is None:
        yield _STATES[item.state]
    elif files.is_whole:
        yield f"whole, {_bytes(files.size_bytes)}: {', '.join(_parts(files))}"
    else:
        for damage in files.damages:
            yield f"{files.folder / damage.file}: {damage.problem}"


def _parts(files: ModelFiles) -> Iterator[str]:
    """Yield the parts with their numbers of weights, the largest first."""
    for name, count in sorted(files.parts.items(), key=lambda part: -part[1]):
        yield f"{name} {_count(count)}" if name else f"{_count(count)} weights"


def _weights(files: ModelFiles) -> dict[str, object]:
    return {
        "parameters": sum(files.parameters.values()),
        "stored_as": dict(files.parameters),
        "size_bytes": files.size_bytes,
    }


def _need(model: Model, files: ModelFiles, *, dtype: str | None) -> Estimate:
    wanted = _dtype(model, dtype)
    return peak_bytes(
        model, default_shape(model), weight_bytes=files.weight_bytes(wanted), dtype=wanted
    )


def _dtype(model: Model, dtype: str | None) -> str:
    return dtype or model.dtype or _DTYPE


def _as_served(catalogue: Catalogue, settings: Settings) -> Catalogue:
    """Return the catalogue with the number format of devices in the models that name none."""
    if settings.dtype == "auto":
        return catalogue
    models = {
        name: model if model.dtype else replace(model, dtype=settings.dtype)
        for name, model in catalogue.models.items()
    }
    return replace(catalogue, models=models)


def _default_of(model: Model, catalogue: Catalogue) -> list[str]:
    return [mode.value for mode, name in catalogue.defaults.items() if name == model.name]


def _origin(entry: Origin) -> str:
    if entry.is_built_in:
        return "built in"
    return entry.hub_id or str(entry.path)


def _count(number: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _bytes(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"
