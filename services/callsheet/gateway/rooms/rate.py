"""How often one connection may do something: a bucket that fills by itself."""

from datetime import timedelta


class Bucket:
    """Holds up to *burst* permissions and gets *per_second* new ones; full at first."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, *, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = now

    def take(self, now: float, *, count: int = 1) -> timedelta | None:
        """Take so many permissions; when there are too few, return how long until there are."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < count:
            return timedelta(seconds=(count - self._left) / self._per_second)
        self._left -= count
        return None
