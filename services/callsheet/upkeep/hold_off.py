"""When the rescuer may act: an outage of the ledger's server must never cost an attempt."""

from datetime import timedelta

from callsheet.ledger.instants import span


class HoldOff:
    """Keeps the rescuer away for one whole lease after workers may have been unable to renew.

    Whoever was cut off can come back and renew within that time. All times are the ledger's own.
    """

    def __init__(self, lease: timedelta) -> None:
        self._lease = span(lease)
        self._seen: tuple[str, int] | None = None
        self._until = 0

    def interrupt(self) -> None:
        """Note that the ledger did not answer."""
        self._seen = None

    def is_over(self, *, now: int, instance: str) -> bool:
        """Whether leases that are expired *now* were so by their holders' own fault.

        Look often: a time that leaps by half a lease between two looks counts as an outage, for
        then the server hung, this process was stopped, the machine slept, or its clock was set.
        """
        seen = self._seen
        self._seen = (instance, now)
        if seen is None or seen[0] != instance or not 0 <= now - seen[1] <= self._lease // 2:
            self._until = now + self._lease
        return now >= self._until
