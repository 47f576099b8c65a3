"""The bench's side of what tasks tell outside of their brokers; witness/witness.py is the other."""

import asyncio
import os
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parents[1]
#: Longer than any contender takes to start, or for one task, in seconds.
PATIENCE: Final = 60.0


class Witnessed:
    """What the tasks of one contender told: how many ran in which process, and when."""

    def __init__(self, folder: Path, moments: socket.socket) -> None:
        self._folder = folder
        self._moments = moments
        self.environment = MappingProxyType(
            {"BENCH_WITNESS": str(folder), "PYTHONPATH": str(HERE / "witness")}
        )

    def ran(self) -> int:
        """How many tasks began, in all processes together."""
        return sum(self.by_process().values())

    def by_process(self) -> dict[int, int]:
        """How many tasks began, by process id."""
        files = list(self._folder.glob("*.count"))
        return {int(file.stem): _count(file.read_bytes()) for file in files}

    async def moment(self) -> int:
        """When the next timed task began, on the monotonic clock, in nanoseconds.

        Raises TimeoutError after a minute.
        """
        async with asyncio.timeout(PATIENCE):
            told = await asyncio.get_running_loop().sock_recv(self._moments, 8)
        return _count(told)


@contextmanager
def witnessing(folder: Path) -> Generator[Witnessed]:
    """Listen in *folder* to what tasks tell."""
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as moments:
        # A path of a socket has at most 107 bytes.
        address = os.fspath(folder / "moments")
        moments.bind(address)
        moments.setblocking(False)
        yield Witnessed(folder, moments)


def _count(packed: bytes) -> int:
    # A file is empty for as long as its process has not sized it.
    return struct.unpack("<q", packed)[0] if len(packed) == 8 else 0
