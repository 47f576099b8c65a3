"""Times as the ledger keeps them: microseconds since 1970, seen as aware datetimes."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def instant(microseconds: int) -> datetime:
    """Return the moment that many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """Return how many microseconds after 1970 the moment is."""
    return (moment - EPOCH) // MICROSECOND


def span(duration: timedelta) -> int:
    """Return the duration in microseconds."""
    return duration // MICROSECOND
