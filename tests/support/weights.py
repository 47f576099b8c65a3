"""Files of weights, written by the library itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from callsheet.runner.untyped import Untyped, imported

_NUMPY: Final = imported("numpy")


def save_arrays(path: Path, arrays: Mapping[str, Untyped]) -> None:
    """Write arrays of numpy, by name, into a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    imported("safetensors.numpy").save_file(dict(arrays), path, metadata={"format": "np"})


def save_weights(path: Path, **sizes: int) -> None:
    """Write a safetensors file with a tensor of float32 of each name and size."""
    save_arrays(path, {name: ones(size) for name, size in sizes.items()})


def ones(*shape: int, dtype: str = "float32") -> Untyped:
    """Return an array of numpy full of ones."""
    return _NUMPY.ones(shape, dtype)
