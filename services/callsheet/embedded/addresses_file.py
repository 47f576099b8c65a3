"""Where the parts of a plane listen, left by `up` in its folder for whoever looks at it there."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from callsheet.runtime.secrets import keep_secret

ADDRESSES_FILE: Final = "addresses.json"

#: What may stand in it: names of settings.
NOTED: Final = (
    "grpc_address",
    "gateway_address",
    "health_address",
    "docs_address",
    "brain_ws_url",
)


def note_addresses(state_dir: Path, addresses: Mapping[str, object]) -> None:
    """Leave those of the addresses that are settings, in place of earlier ones. Raises OSError."""
    forget_addresses(state_dir)
    told = {name: addresses[name] for name in NOTED if addresses.get(name) is not None}
    keep_secret(state_dir / ADDRESSES_FILE, json.dumps(told))


def forget_addresses(state_dir: Path) -> None:
    """Take them away; nothing where there are none."""
    with contextlib.suppress(OSError):
        (state_dir / ADDRESSES_FILE).unlink(missing_ok=True)


def noted_addresses(state_dir: Path) -> Mapping[str, str]:
    """Return what an `up` left that runs there, or was killed; nothing when it cannot be read."""
    try:
        told = cast("Mapping[str, object]", json.loads((state_dir / ADDRESSES_FILE).read_text()))
        found = {name: told.get(name) for name in NOTED}
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}
