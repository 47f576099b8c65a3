"""The gateway as `up` runs it: where it listens, and the key with which it looks at the plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from callsheet.embedded.embedded_brain import reached_at
from callsheet.embedded.endpoints import free_address
from callsheet.runtime.settings import Settings

GATEWAY: Final = "gateway"

#: The address on which nobody is to listen.
NOWHERE: Final = "none"


@dataclass(frozen=True, slots=True)
class GatewayAddresses:
    """Where the gateway listens, host:port; None: nowhere."""

    gateway: str | None = None
    health: str | None = None
    docs: str | None = None

    @property
    def urls(self) -> Mapping[str, str]:
        """What a person opens, by what it is; nothing where nobody listens."""
        found = {"dashboard": self.gateway, "health": self.health, "docs": self.docs}
        return {
            name: f"http://{reached_at(address)}"
            for name, address in found.items()
            if address is not None
        }


def gateway_addresses(settings: Settings) -> GatewayAddresses:
    """Return where the gateway is to listen, its ports 0 replaced by free ones.

    Raises AddressTaken when nobody can listen there.
    """
    return GatewayAddresses(
        gateway=free_address(settings.gateway_address),
        health=_free_unless_nowhere(settings.health_address),
        docs=_free_unless_nowhere(settings.docs_address),
    )


def gateway_environment(
    settings: Settings, addresses: GatewayAddresses, *, key: str | None
) -> Mapping[str, str]:
    """Return what tells the gateway where to listen, and the key to look with if it has none."""
    environment = {
        "CALLSHEET_GATEWAY_ADDRESS": addresses.gateway or settings.gateway_address,
        "CALLSHEET_HEALTH_ADDRESS": addresses.health or NOWHERE,
        "CALLSHEET_DOCS_ADDRESS": addresses.docs or NOWHERE,
    }
    if key is not None and settings.health_key is None:
        environment["CALLSHEET_HEALTH_KEY"] = key
    return environment


def _free_unless_nowhere(address: str) -> str | None:
    return None if address == NOWHERE else free_address(address)
