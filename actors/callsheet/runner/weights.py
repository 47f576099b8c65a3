"""What names the weights of a model for good: work on one is never gone on with on another."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from callsheet.runtime.models import Origin

#: Of each file these are looked at: a digest of whole weights would take longer than their loading.
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 64 * 1024


def identity_of(origin: Origin, folder: Path | None) -> str:
    """Return what tells these weights from all others.

    It is the pin of what has one; else, of a folder, a digest of the names, the sizes and samples
    of its files.
    """
    name = str(getattr(origin, "name", ""))
    if origin.pin:
        return f"{name}@{origin.pin}"
    if folder is None:
        return f"{name}@{origin.hub_id}@{origin.revision}"
    return f"{name}@{_digest(folder)}"


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\n{size}\n".encode())
        for sample in _sampled(path, size):
            digest.update(sample)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sampled(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            yield file.read()
            return
        for index in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            yield file.read(_SAMPLE_BYTES)
