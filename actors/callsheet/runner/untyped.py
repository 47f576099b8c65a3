"""Libraries whose types are of no use: torch, diffusers, transformers."""

import importlib
from typing import Any, TypeAlias

Untyped: TypeAlias = Any
"""A thing of such a library. It stays within the modules that load and run models."""


def imported(name: str) -> Untyped:
    """Import such a library, when it is needed and not before; raises ImportError."""
    return importlib.import_module(name)
