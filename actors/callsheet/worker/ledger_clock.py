"""The ledger's time, as a worker knows it between two claims."""

import time
from datetime import datetime, timedelta


class LedgerClock:
    """Tells the time of the latest answer plus what has passed since by the monotonic clock."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment
        self._at = time.monotonic()

    def set(self, moment: datetime) -> None:
        """Note what the ledger said the time is."""
        self._moment, self._at = moment, time.monotonic()

    def now(self) -> datetime:
        """Return the ledger's time."""
        return self._moment + timedelta(seconds=time.monotonic() - self._at)
