"""When a delivery that failed is tried again."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

#: What an endpoint may ask us to wait at most.
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)

_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def retry_delay(
    tries: int,
    *,
    schedule: Sequence[timedelta],
    jitter: float,
    retry_after: timedelta | None = None,
) -> timedelta | None:
    """Return the wait after the try of that number, counted from 1, has failed.

    The schedule's wait is spread by a fifth either way; *jitter* is a random number in [0, 1). A
    *retry_after* counts instead, within half the schedule's wait and 24 hours. None: that was the
    last try.
    """
    if tries > len(schedule):
        return None
    wait = schedule[tries - 1]
    if retry_after is not None:
        return max(wait / 2, min(retry_after, LONGEST_RETRY_AFTER))
    return wait * (0.8 + 0.4 * jitter)


def parse_retry_after(text: str, *, now: datetime) -> timedelta | None:
    """Return what a Retry-After header asks for, in seconds or as a date; None for neither."""
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None  # the standard library's reader lets more than ValueError through
    # A date without a zone is in GMT, as RFC 9110 has it.
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(timedelta(0), moment - now)
