"""The seam between the ledger and who is alive: workers, and the roles one holder has at a time."""

from datetime import timedelta
from enum import Enum
from typing import Protocol


class Wish(Enum):
    """What operators wish of a worker."""

    PAUSE = "pause"
    DRAIN = "drain"


class Registry(Protocol):
    """Keeps what processes say of themselves. Every method may raise LedgerUnavailable."""

    async def heartbeat(self, worker: str, record: bytes) -> Wish | None:
        """Note that the worker lives, and what it says of itself; answer what is wished of it."""
        ...

    async def wish(self, worker: str, wish: Wish | None) -> bool:
        """Note what operators wish of a worker, and tell it so; False: there is no such worker.

        None takes back what was wished before. A worker that is to drain is not just paused.
        """
        ...

    async def forget_worker(self, worker: str) -> None:
        """Remove a worker that has ended, and its control list."""
        ...

    async def workers(self, *, seen_within: timedelta) -> list[tuple[bytes, int]]:
        """Return (record, seen time) of each worker heard of lately; forgets the older ones."""
        ...

    async def hold(self, role: str, holder: str, *, duration: timedelta) -> bool:
        """Take or renew a role that one holder has at a time; False: somebody else has it."""
        ...

    async def release(self, role: str, holder: str) -> None:
        """Give a role up, if held."""
        ...
