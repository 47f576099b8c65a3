"""The moment at which waiting ends."""

import time
from datetime import timedelta


class Deadline:
    """A moment *timeout* from now, by the clock that never jumps."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds()

    def is_over(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self._end
