"""The seam between the ledger and who is alive: workers, and the roles one holder has at a time."""

from datetime import timedelta
from typing import Protocol


class Registry(Protocol):
    """Keeps what processes say of themselves. Every method may raise LedgerUnavailable."""

    async def heartbeat(self, worker: str, record: bytes) -> None:
        """Note that the worker lives, and what it says of itself."""
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
