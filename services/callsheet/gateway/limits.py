"""How much one caller may ask: requests a second, failed sign-ins, and open streams."""

from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final

from callsheet.gateway.problems import Refused

#: Callers remembered at most; whoever was away longest is forgotten first.
REMEMBERED: Final = 10_000


class RateLimit:
    """Lets each caller do so much a second in the long run, and *burst* at once."""

    def __init__(
        self,
        *,
        per_second: float,
        burst: int,
        clock: Callable[[], float] = monotonic,
        remembered: int = REMEMBERED,
    ) -> None:
        self._cost = 1 / per_second
        self._slack = (burst - 1) * self._cost
        self._clock = clock
        self._remembered = remembered
        #: When each caller would have nothing left to wait for.
        self._even: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str) -> timedelta | None:
        """Return how long the caller has to wait; None: not at all. Nothing is counted."""
        ahead = self._even.get(caller, 0.0) - self._clock() - self._slack
        return timedelta(seconds=ahead) if ahead > 1e-9 else None

    def count(self, caller: str) -> None:
        """Count one request of the caller."""
        even = max(self._even.pop(caller, 0.0), self._clock())
        self._even[caller] = even + self._cost
        if len(self._even) > self._remembered:
            self._even.popitem(last=False)

    def take(self, caller: str) -> None:
        """Count one request of the caller. Raises Refused, 429, when it is one too many."""
        wait = self.wait(caller)
        if wait is not None:
            raise too_many_requests(wait)
        self.count(caller)


class StreamLimit:
    """Lets each caller, and all together, have so many streams open."""

    def __init__(
        self,
        *,
        each: int,
        total: int,
        what: str = "streams",
        whose: str = "key",
        reason: str = "STREAMS_EXHAUSTED",
    ) -> None:
        """*what* is open, *whose* each is, and the *reason* of a refusal are for who is refused."""
        self._each = each
        self._total = total
        self._reason = reason
        self._detail = f"{each} {what} of one {whose}, {total} of all, may be open at a time"
        self._open: dict[str, int] = {}
        self._all = 0

    @contextmanager
    def opened(self, caller: str) -> Generator[None]:
        """Count a stream while it is open. Raises Refused, 429, when it is one too many."""
        mine = self._open.get(caller, 0)
        if mine >= self._each or self._all >= self._total:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                self._reason,
                self._detail,
                retry_after=timedelta(seconds=5),
            )
        self._open[caller] = mine + 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            if self._open[caller] == 1:
                del self._open[caller]
            else:
                self._open[caller] -= 1


def too_many_requests(wait: timedelta) -> Refused:
    """Return the refusal of a caller who has to wait."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "RATE_LIMITED",
        "too many requests: come again after the time in Retry-After",
        retry_after=wait,
    )
