"""One target under Atheris, which looks at the branches that our code takes; started by main."""

import importlib
import sys
from typing import Any


def explore() -> None:
    """Fuzz the target of the first argument until libFuzzer, told by the others, ends it."""
    # Imported by its name: it is installed only where somebody fuzzes.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["callsheet"], enable_loader_override=False):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    program, name, *options = sys.argv
    with targets[name].opened() as check:
        atheris.Setup([program, *options], check)
        atheris.Fuzz()


if __name__ == "__main__":
    explore()
