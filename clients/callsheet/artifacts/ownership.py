"""Whose a store is: the ledger whose tasks its artifacts belong to."""

import json
from dataclasses import dataclass
from typing import Final

from callsheet.artifacts.errors import ArtifactStoreError

#: Beside the folder of the projects: never within what the sweeper lists.
OWNER_KEY: Final = "callsheet-owner.json"
_LARGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class StoreOwner:
    """A cell, and the identity of the ledger that keeps it."""

    cell: str
    ledger: str

    def encoded(self) -> bytes:
        """Return what stands in the store."""
        fields = {"version": 1, "cell": self.cell, "ledger": self.ledger}
        return f"{json.dumps(fields)}\n".encode()


def decoded_owner(content: bytes) -> StoreOwner:
    """Return what a store's marker says. Raises ArtifactStoreError when it says nothing clear."""
    try:
        match json.loads(content[:_LARGEST]):
            case {"version": 1, "cell": str(cell), "ledger": str(ledger)}:
                return StoreOwner(cell, ledger)
            case _:
                reason = "it is no marker that this version knows"
    except (ValueError, RecursionError):
        reason = "it is not JSON"
    raise ArtifactStoreError(f"{OWNER_KEY} does not say whose it is: {reason}")
