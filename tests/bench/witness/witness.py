"""What a task tells the bench outside of its broker: that it ran, and when.

It stands on the standard library alone: the tasks of every contender use it, each in an environment
of its own.
"""

import mmap
import os
import socket
import struct
import threading
import time
from pathlib import Path


class Witness:
    """Counts what ran in this process in a file of *folder*, and tells moments to a socket there.

    A file costs a task a third of a microsecond, and a process that is killed keeps its count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._process = 0
        self._count = 0

    def ran(self, *, timed: bool) -> None:
        """Note that a task began; a *timed* one also sends the moment, in nanoseconds."""
        now = time.monotonic_ns()
        with self._lock:
            # A pool forks after this module was imported.
            if self._process != os.getpid():
                self._begin()
            self._count += 1
            self._file[:] = struct.pack("<q", self._count)
        if timed:
            self._socket.send(struct.pack("<q", now))

    def _begin(self) -> None:
        self._process = os.getpid()
        self._count = 0
        with (self._folder / f"{self._process}.count").open("w+b") as file:
            file.write(bytes(8))
            file.flush()
            self._file = mmap.mmap(file.fileno(), 8)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(str(self._folder / "moments"))


WITNESS = Witness(Path(os.environ["BENCH_WITNESS"]))
