"""`callsheetd models build-tiny` and `warm`: what needs torch, in a process of its own."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final

from callsheet.runner.context import HandlerFailure
from callsheet.runner.diffusion import import_libraries
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.tiny.folders import SAVES, built_in_folder
from callsheet.runner.tuning import Tuning, TuningRefused
from callsheet.runner.untyped import imported
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.model_inventory import built_in_path
from callsheet.runtime.models import Catalogue, UnknownModel
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings, load_settings_or_exit
from callsheet.runtime.toml_table import CatalogueInvalid

EXIT_FAILED: Final = 1

#: What was done with one model, by its name and the facts about it.
Row = dict[str, str | int | float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one action and return its exit code: 0, or 1 when it failed for a model."""
    asked = _parsed(arguments)
    settings = load_settings_or_exit()
    # What is wrong with a model is printed; the log would say it a second time.
    configure_logging(settings.model_copy(update={"log_level": "error"}), process="callsheetd")
    actions: dict[str, Callable[[Settings, Sequence[str]], Iterator[Row]]] = {
        "build-tiny": build_tiny,
        "warm": warm,
    }
    try:
        return _told(actions[asked.action](settings, asked.name), as_json=asked.json)
    except (HandlerFailure, UnknownModel) as error:
        return _refused(str(error), EXIT_FAILED)
    except TuningRefused as error:
        return _refused(str(error), EXIT_SETTINGS_REFUSED)
    except CatalogueInvalid as error:
        return _refused(f"CALLSHEET_MODELS: {error}", EXIT_SETTINGS_REFUSED)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m callsheet.runner.models", description=__doc__)
    parser.add_argument("action", choices=("build-tiny", "warm"))
    parser.add_argument("name", nargs="*", help="a model; none: all of them")
    parser.add_argument("--json", action="store_true", help="print one array of objects")
    return parser.parse_args(arguments)


def build_tiny(settings: Settings, names: Sequence[str]) -> Iterator[Row]:
    """Build the built-in models of those names, or all, and yield what became of each.

    Raises UnknownModel before anything is built; HandlerFailure when torch is not installed.
    """
    if unknown := [name for name in names if name not in SAVES]:
        raise UnknownModel(unknown[0], known=SAVES, what="built-in model")
    import_libraries()
    for name in names or SAVES:
        was_there = built_in_path(name, cache_dir=settings.cache_dir).is_dir()
        start = perf_counter()
        folder = built_in_folder(name, cache_dir=settings.cache_dir)
        yield {
            "name": name,
            "state": "was there" if was_there else "built",
            "seconds": round(perf_counter() - start, 3),
            "folder": str(folder),
        }


def warm(settings: Settings, names: Sequence[str]) -> Iterator[Row]:
    """Load the models of those names, or all, one after the other, and yield what became of each.

    Raises UnknownModel and CatalogueInvalid before anything is loaded; HandlerFailure when torch is
    not installed, or the device is not there, and TuningRefused when it refuses the settings.
    """
    catalogue = load_catalogue(settings.models_file)
    wanted = _names(catalogue, names)
    import_libraries()
    device = _device(settings)
    pipelines = Pipelines(
        catalogue,
        device=device,
        cache_dir=settings.cache_dir,
        most_host_bytes=2**63,
        tuning=Tuning.of(settings, device=device, cache_dir=settings.cache_dir),
    )
    for name in wanted:
        start = perf_counter()
        try:
            pipeline = pipelines.get(name)
            pipeline.bring()
        except HandlerFailure as failure:
            yield {"name": name, "error": failure.message}
            continue
        row: Row = {
            "name": name,
            "state": "loaded",
            "seconds": round(perf_counter() - start, 3),
            "weight_bytes": pipeline.size_bytes(),
            "device": device,
        }
        del pipeline
        # One at a time: nothing says that they all fit beside each other.
        pipelines.clear()
        yield row


def _names(catalogue: Catalogue, names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in catalogue.models:
            raise UnknownModel(name, known=catalogue.models)
    return names or list(catalogue.models)


def _device(settings: Settings) -> str:
    if settings.device != "auto":
        return settings.device
    return "cuda:0" if imported("torch").cuda.is_available() else "cpu"


def _told(rows: Iterator[Row], *, as_json: bool) -> int:
    told: list[Row] = []
    for row in rows:
        told.append(row)
        if not as_json:
            # At once, because a model of the hub may take minutes.
            sys.stdout.write("  ".join(str(value) for value in row.values()) + "\n")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    return EXIT_FAILED if any("error" in row for row in told) else 0


def _refused(reason: str, code: int) -> int:
    sys.stderr.write(f"callsheetd: {reason}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
