"""Where models of the hub lie on this machine, once they were fetched."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def snapshot_folder(
    hub_id: str, revision: str, *, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """Return the folder of a model's revision, as the hub's own library keeps it.

    None: it was not fetched to this machine, or not under that revision.
    """
    repository = _cache(environment) / f"models--{hub_id.replace('/', '--')}"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        reference = repository / "refs" / revision
        if not reference.resolve().is_relative_to((repository / "refs").resolve()):
            return None
        if not reference.is_file():
            return None
        commit = reference.read_text(encoding="utf-8").strip()
    folder = repository / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def _cache(environment: Mapping[str, str]) -> Path:
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    parent = environment.get("XDG_CACHE_HOME", "~/.cache")
    return Path(parent).expanduser() / "huggingface" / "hub"
