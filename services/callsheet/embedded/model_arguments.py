"""The command line of `callsheetd models`."""

import argparse
from collections.abc import Callable
from typing import Final

from callsheet.runtime.model_files import DTYPE_BYTES

#: The method of argparse that adds a command, whose class is private.
AddParser = Callable[..., argparse.ArgumentParser]

_NAMES: Final = "a model, LoRA or ControlNet of the catalogue; none: all of them"


def add_models(add_parser: AddParser) -> None:
    """Add `models` with its actions: list, check, build-tiny, warm."""
    models = add_parser(
        "models",
        help="list, check, build and try the models of the catalogue",
        description="The models, LoRAs and ControlNets of the catalogue that CALLSHEET_MODELS "
        "names, and the tiny built-in ones.",
    )
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="list the catalogue, with sizes and the memory that models need",
        description="List the catalogue: family, where the files are, how many weights they hold, "
        "what the model needs at its own size, and what it is the default of. Nothing is loaded: "
        "the heads of the files say it all.",
    )
    _add_dtype(listing)
    _add_json(listing, "one array of objects")
    check = actions.add_parser(
        "check",
        help="find files that are missing, cut off or damaged",
        description="Look at the files of every model on this machine and name what is missing, "
        "cut off, damaged, or a pickle. Exit code 1: something is. What was not fetched or built "
        "yet is no fault.",
    )
    check.add_argument("name", metavar="NAME", nargs="*", help=_NAMES)
    _add_json(check, "one array of objects")
    build = actions.add_parser(
        "build-tiny",
        help="build the tiny built-in models into CALLSHEET_CACHE_DIR",
        description="Build the tiny built-in models of every family, with random weights that are "
        "the same everywhere, into CALLSHEET_CACHE_DIR/models. What is there is left as it is. A "
        "runner builds what it needs by itself; this is for images of machines, and for tests.",
    )
    build.add_argument("name", metavar="NAME", nargs="*", help="a built-in name; none: all of them")
    _add_json(build, "one array of objects")
    warm = actions.add_parser(
        "warm",
        help="load every model once, and say how long it took",
        description="Load every model once on the device of CALLSHEET_DEVICE, one after the other, "
        "and print seconds and bytes. What the hub has and this machine has not is fetched. Exit "
        "code 1: one could not be loaded.",
    )
    warm.add_argument("name", metavar="NAME", nargs="*", help="a model; none: all of them")
    _add_json(warm, "one array of objects")


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        choices=sorted(DTYPE_BYTES),
        help="the number format to reckon memory in; else the model's own, or bfloat16",
    )


def _add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what}")
