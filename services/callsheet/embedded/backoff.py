"""How long to wait before a process that ended is started again."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits that double from *first* to *longest*, each shortened by chance to half at most.

    A process that ran for *steady* has its failures forgotten; one that failed *crash_loop* times
    in a row is said to be in a crash loop, and is still started again.
    """

    first: timedelta = timedelta(milliseconds=250)
    longest: timedelta = timedelta(seconds=30)
    steady: timedelta = timedelta(minutes=1)
    crash_loop: int = 5

    def wait(self, failures: int, *, chance: float) -> timedelta:
        """Return the wait after so many failures in a row; *chance* is from 0 to 1."""
        # Past 2^20 every first wait has long met the longest one.
        full = min(self.longest, self.first * 2 ** min(failures - 1, 20))
        return full * (0.5 + chance / 2)
