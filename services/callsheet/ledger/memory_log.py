"""The reference log and registry, over a MemoryCell."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

from callsheet.ledger.errors import CursorLost
from callsheet.ledger.index import WORKER_WORD, Keys, lease_member
from callsheet.ledger.instants import span
from callsheet.ledger.log import LOG_START, LogEntry
from callsheet.ledger.memory_store import MemoryCell
from callsheet.ledger.registry import Wish


class MemoryLog:
    """Keeps the log of a MemoryCell."""

    def __init__(self, cell: MemoryCell, *, new_epoch: Callable[[], str]) -> None:
        self._cell = cell
        self._epoch = new_epoch()
        self._trimmed = 0
        self._cursors: dict[str, str] = {}
        self._listeners: set[asyncio.Queue[bytes]] = set()

    async def after(self, position: str, *, limit: int, timeout: timedelta) -> list[LogEntry]:
        """Return log entries after a position; wait for the first up to the timeout."""
        place = _place(position)
        if place > self._cell.logged or place < self._trimmed:
            raise CursorLost(position)
        await self._cell.until(lambda: self._cell.logged > place, timeout=timeout)
        return [entry for entry in self._cell.log if _place(entry.position) > place][:limit]

    async def start(self) -> str:
        """Return the position after which the log holds everything."""
        return f"{self._trimmed}-0" if self._trimmed else LOG_START

    async def end(self) -> str:
        """Return the position of the newest log entry ever added."""
        return f"{self._cell.logged}-0" if self._cell.logged else LOG_START

    async def trim(self, position: str) -> int:
        """Drop log entries before the position; answer how many went."""
        self._trimmed = max(self._trimmed, _place(position))
        kept = [entry for entry in self._cell.log if _place(entry.position) >= self._trimmed]
        dropped = len(self._cell.log) - len(kept)
        self._cell.log[:] = kept
        return dropped

    async def length(self) -> int:
        """Return how many entries the log holds."""
        return len(self._cell.log)

    async def cursors(self) -> dict[str, str]:
        """Return every durable reader's position in the log."""
        return dict(self._cursors)

    async def save_cursor(self, reader: str, position: str) -> None:
        """Remember how far a durable reader has come; the log is kept behind it."""
        self._cursors[reader] = position

    async def publish(self, signal: bytes) -> None:
        """Tell whoever listens now; nothing is kept."""
        for listener in self._listeners:
            listener.put_nowait(signal)

    async def signals(self) -> AsyncGenerator[bytes, None]:
        """Yield published signals until closed."""
        listener: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self._listeners.discard(listener)

    async def epoch(self) -> str:
        """Return the ledger's epoch."""
        return self._epoch

    async def change_epoch(self, epoch: str) -> None:
        """Set a new epoch: the ledger was restored or lost its tail."""
        self._epoch = epoch

    async def identity(self) -> str:
        """Return what tells this ledger from every other one."""
        return f"memory-{id(self._cell):x}"

    async def instance(self) -> str:
        """Return what changes whenever the store's server starts anew: never."""
        return "memory"


class MemoryRegistry:
    """Keeps the registry of a MemoryCell."""

    def __init__(self, cell: MemoryCell, keys: Keys) -> None:
        self._cell = cell
        self._keys = keys
        self._workers: dict[str, tuple[bytes, int]] = {}
        self._holds: dict[str, tuple[str, int]] = {}

    async def heartbeat(self, worker: str, record: bytes) -> Wish | None:
        """Note that the worker lives, and what it says of itself; answer what is wished of it."""
        self._workers[worker] = (record, self._cell.clock())
        return self._cell.wishes.get(worker)

    async def wish(self, worker: str, wish: Wish | None) -> bool:
        """Note what operators wish of a worker, and tell it so; False: there is no such worker."""
        if worker not in self._workers:
            return False
        if wish is None:
            self._cell.wishes.pop(worker, None)
        elif wish is not Wish.PAUSE or self._cell.wishes.get(worker) is not Wish.DRAIN:
            self._cell.wishes[worker] = wish
        self._cell.lists[self._keys.control(worker)].append(lease_member(*WORKER_WORD))
        await self._cell.tell()
        return True

    async def forget_worker(self, worker: str) -> None:
        """Remove a worker that has ended, and its control list."""
        self._workers.pop(worker, None)
        self._cell.forget_worker(worker)
        self._cell.lists.pop(self._keys.control(worker), None)

    async def workers(self, *, seen_within: timedelta) -> list[tuple[bytes, int]]:
        """Return (record, seen time) of each worker heard of lately; forgets the older ones."""
        since = self._cell.clock() - span(seen_within)
        for name in [name for name, said in self._workers.items() if said[1] < since]:
            del self._workers[name]
            self._cell.forget_worker(name)
        return sorted(self._workers.values(), key=lambda said: said[1])

    async def hold(self, role: str, holder: str, *, duration: timedelta) -> bool:
        """Take or renew a role that one holder has at a time; False: somebody else has it."""
        now = self._cell.clock()
        current, until = self._holds.get(role, (holder, 0))
        if current != holder and until > now:
            return False
        self._holds[role] = (holder, now + span(duration))
        return True

    async def release(self, role: str, holder: str) -> None:
        """Give a role up, if held."""
        if self._holds.get(role, ("", 0))[0] == holder:
            del self._holds[role]


def _place(position: str) -> int:
    try:
        return int(position.partition("-")[0])
    except ValueError as error:
        raise CursorLost(position) from error
