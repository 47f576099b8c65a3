"""The seam between the ledger and its log: one line of facts for every reader of the cell."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One fact in the cell's log."""

    position: str
    task_id: str
    event: bytes


#: The position before the first entry of every log.
LOG_START: Final = "0-0"


class Log(Protocol):
    """Keeps the log, its cursors and the epoch. Every method may raise LedgerUnavailable."""

    async def after(self, position: str, *, limit: int, timeout: timedelta) -> list[LogEntry]:
        """Return log entries after a position; wait for the first up to the timeout.

        Raises:
            CursorLost: the log was trimmed past the position, or ends before it.
        """
        ...

    async def start(self) -> str:
        """Return the position after which the log holds everything."""
        ...

    async def end(self) -> str:
        """Return the position of the newest log entry ever added."""
        ...

    async def trim(self, position: str) -> int:
        """Drop log entries before the position; answer how many went."""
        ...

    async def length(self) -> int:
        """Return how many entries the log holds."""
        ...

    async def cursors(self) -> dict[str, str]:
        """Return every durable reader's position in the log."""
        ...

    async def save_cursor(self, reader: str, position: str) -> None:
        """Remember how far a durable reader has come; the log is kept behind it."""
        ...

    async def publish(self, signal: bytes) -> None:
        """Tell whoever listens now; nothing is kept."""
        ...

    def signals(self) -> AsyncGenerator[bytes, None]:
        """Yield published signals until closed; raises LedgerUnavailable when the link breaks."""
        ...

    async def epoch(self) -> str:
        """Return the ledger's epoch, making the first one when there is none."""
        ...

    async def change_epoch(self, epoch: str) -> None:
        """Set a new epoch: the ledger was restored or lost its tail."""
        ...

    async def identity(self) -> str:
        """Return what tells this ledger from every other one, made once and never changed.

        A ledger that was restored keeps it; one that was emptied gets another.
        """
        ...

    async def instance(self) -> str:
        """Return what changes whenever the store's server starts anew."""
        ...
