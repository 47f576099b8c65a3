"""How another part of Callsheet is started as a process of its own."""

import sys


def module_command(module: str, *words: str) -> list[str]:
    """Return the command line that runs a module of Callsheet, such as `control`."""
    # -P: a file in the folder one happens to stand in must not shadow a module.
    return [sys.executable, "-P", "-m", f"callsheet.{module}", *words]
