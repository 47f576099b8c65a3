"""The embedded brain as `up` runs it: whether there is one, and how its clients find it."""

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from callsheet.embedded.brain_token import brain_token
from callsheet.embedded.endpoints import free_address
from callsheet.runtime.settings import Settings

BRAIN: Final = "brain"
#: The room's module, below callsheet.
BRAIN_MODULE: Final = "embedded.brain"

#: Where clients on this machine reach who listens everywhere.
_LOOPBACK: Final[Mapping[str, str]] = MappingProxyType({"0.0.0.0": "127.0.0.1", "[::]": "[::1]"})  # noqa: S104  # compared with, not listened on


def is_wanted(settings: Settings) -> bool:
    """Whether `up` is to run a brain: not when the settings name another one."""
    return settings.brain_ws_url is None


def is_installed() -> bool:
    """Whether what the brain stands on is there: it is an extra, for it is large."""
    return find_spec("ladybug") is not None


def reached_at(address: str) -> str:
    """Return the address by which clients on this machine reach who listens there."""
    host, _, port = address.rpartition(":")
    return f"{_LOOPBACK.get(host, host)}:{port}"


def brain_environment(settings: Settings) -> Mapping[str, str]:
    """Return what tells the brain where to listen, and its clients where it is.

    Raises AddressTaken when nobody can listen there, and SecretUnusable when its token is not
    kept from other users.
    """
    address = free_address(settings.brain_address)
    reached = reached_at(address)
    return {
        "CALLSHEET_BRAIN_ADDRESS": address,
        "CALLSHEET_BRAIN_TOKEN": brain_token(settings),
        "BRAIN_WS_URL": f"ws://{reached}/mcp",
        "BRAIN_HTTP_URL": settings.brain_http_url or f"http://{reached}",
    }
