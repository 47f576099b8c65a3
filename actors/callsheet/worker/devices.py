"""Which device a worker's runner gets, found without importing torch."""

from pathlib import Path
from typing import Final

AUTO: Final = "auto"

#: The kernel module's list of GPUs; containers that were given one have its device file.
_SIGNS: Final = ("proc/driver/nvidia/gpus/*", "dev/nvidia[0-9]*")


def device_named(setting: str, *, root: Path = Path("/")) -> str:
    """Return the device of a setting: itself, or for auto the first CUDA device, else the CPU."""
    if setting != AUTO:
        return setting
    found = any(next(root.glob(sign), None) is not None for sign in _SIGNS)
    return "cuda:0" if found else "cpu"
