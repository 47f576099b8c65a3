"""How many attempts of one resource class may run at once, and how many do."""

import asyncio


class Slots:
    """Counts slots; lives on one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.busy = 0
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more attempts may start now."""
        return self.total - self.busy

    def take(self, count: int) -> None:
        """Note that attempts start; never more than are free."""
        if count > self.free:
            raise ValueError(f"{count} slots are wanted, {self.free} are free")
        self.busy += count

    def release(self) -> None:
        """Note that an attempt has ended."""
        if self.busy == 0:
            raise ValueError("no slot is taken")
        self.busy -= 1
        self._freed.set()

    async def some_free(self) -> int:
        """Wait until at least one slot is free, and return how many are."""
        while self.free == 0:
            self._freed.clear()
            await self._freed.wait()
        return self.free
