"""The circuit breaker: who did not answer several times in a row is left alone for a while."""

from collections.abc import Callable
from datetime import timedelta


class CircuitBreaker:
    """Closed, it admits every call; open, none; after its rest, one that shows how things are.

    *clock* tells seconds. Who was admitted must say how the call went.
    """

    def __init__(self, clock: Callable[[], float], *, failures: int, rest: timedelta) -> None:
        self._clock = clock
        self._most = failures
        self._rest = rest.total_seconds()
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, or one is on its way to show how things are."""
        return self._open_until is not None

    def close(self) -> None:
        """Admit every call: what failed before counts no more."""
        self._failures = 0
        self._open_until: float | None = None
        self._is_probed = False

    def admits(self) -> bool:
        """Whether a call may be made now; after the rest, this takes the place of the one probe."""
        if self._open_until is None:
            return True
        if self._is_probed or self._clock() < self._open_until:
            return False
        self._is_probed = True
        return True

    def failed(self) -> None:
        """Count a call without an answer; several in a row, or a failed probe, open the circuit."""
        self._failures += 1
        if self._failures >= self._most or self._is_probed:
            self._open_until = self._clock() + self._rest
            self._is_probed = False

    def abandoned(self) -> None:
        """Note that nobody waited for the answer: it shows nothing, and another may probe."""
        self._is_probed = False
