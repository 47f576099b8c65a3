"""When to try again: full-jitter back-off that honours the server's wish and always ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import SystemRandom
from typing import TYPE_CHECKING, Final, TypeVar

from callsheet.client.errors import (
    CallCancelled,
    CallError,
    DeadlineExceeded,
    ResourceExhausted,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_ZERO: Final = timedelta(0)
# The system's own source: forked processes must not share one jitter.
_RANDOM: Final = SystemRandom()


@dataclass(frozen=True)
class BackoffPolicy:
    """How long waits grow: each is drawn between zero and a limit that doubles up to maximum."""

    initial: timedelta = timedelta(milliseconds=100)
    maximum: timedelta = timedelta(seconds=5)


@dataclass
class Backoff:
    """Draws one wait after the other; ``reset`` starts again with short ones."""

    policy: BackoffPolicy = field(default_factory=BackoffPolicy)
    #: Draws from [0, 1).
    draw: Callable[[], float] = _RANDOM.random
    _failures: int = 0

    def next_wait(self, *, at_least: timedelta | None = None) -> timedelta:
        """Return the next wait: a jittered one, on top of what the server asked for."""
        doublings = min(self._failures, 32)  # the limit stands long before; keeps numbers small
        limit = min(self.policy.initial * 2**doublings, self.policy.maximum)
        self._failures += 1
        return (at_least or _ZERO) + limit * self.draw()

    def reset(self) -> None:
        """Forget all failures so far."""
        self._failures = 0


def is_transient(error: CallError) -> bool:
    """Return whether the same call may succeed a little later.

    So it is when the plane was away, when the connection broke (which gRPC tells as UNAVAILABLE,
    or as CANCELLED when a server ends), and when the server named a time for another try.
    """
    if isinstance(error, ResourceExhausted):
        return error.retry_delay is not None
    return isinstance(error, Unavailable | CallCancelled)


class Deadline:
    """A moment on the running loop's clock, by which something must be over."""

    def __init__(self, after: timedelta) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + after.total_seconds()

    def remaining(self) -> timedelta:
        """Return the time left, never less than zero."""
        return timedelta(seconds=max(0.0, self._at - self._loop.time()))

    def passed(self) -> bool:
        """Return whether no time is left."""
        return self.remaining() == _ZERO


class Outage:
    """The patience of a long wait: how long the plane may be away without a break."""

    def __init__(self, *, limit: timedelta, backoff: Backoff) -> None:
        self._limit = limit
        self._backoff = backoff
        self._end: Deadline | None = None

    def over(self) -> None:
        """Say that the plane answered."""
        self._end = None
        self._backoff.reset()

    async def bear(self, error: CallError, *, until: Deadline) -> None:
        """Return when it is time for another try, at the latest at the given deadline.

        Raises the error when no other try can help, or when the plane has been away for too long.
        """
        if not (is_transient(error) or isinstance(error, DeadlineExceeded)):
            raise error
        self._end = self._end or Deadline(self._limit)
        wait = self._backoff.next_wait(at_least=error.retry_delay)
        if wait >= self._end.remaining():
            raise error
        await asyncio.sleep(min(wait, until.remaining()).total_seconds())


async def retrying(
    attempt: Callable[[timedelta], Awaitable[T]],
    *,
    timeout: timedelta,
    backoff: Backoff,
) -> T:
    """Call ``attempt`` with the time left until it answers, fails for good, or time is up.

    Raises the last error when the next try would start after ``timeout``.
    """
    deadline = Deadline(timeout)
    cause: CallError | None = None
    while True:
        try:
            return await attempt(deadline.remaining())
        except DeadlineExceeded as error:
            if cause is None:
                raise
            raise cause from error  # what kept the call from its answer says more than the clock
        except CallError as error:
            if not is_transient(error):
                raise
            wait = backoff.next_wait(at_least=error.retry_delay)
            if wait >= deadline.remaining():
                raise
            cause = error
        await asyncio.sleep(wait.total_seconds())
