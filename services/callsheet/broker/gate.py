"""Whether claimers may claim: shut while operators have paused the worker, or drain it."""

import asyncio


class Gate:
    """Open at first; lives on one event loop."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._opened.set()
        self._closed = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether claims may be made now."""
        return self._opened.is_set()

    def open(self) -> None:
        """Let claims be made."""
        self._closed.clear()
        self._opened.set()

    def shut(self) -> None:
        """Let no claim begin; those on their way are finished."""
        self._opened.clear()
        self._closed.set()

    async def opened(self) -> None:
        """Wait until claims may be made."""
        await self._opened.wait()

    async def closed(self) -> None:
        """Wait until no claims may be made."""
        await self._closed.wait()
