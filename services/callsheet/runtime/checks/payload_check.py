"""Looks at PayloadCMS: whether its media collection can be searched with the key."""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final

from callsheet.payload.client import PayloadClient, PayloadPlace
from callsheet.payload.errors import (
    AccessRefused,
    AnswerMalformed,
    PayloadError,
    PayloadUnavailable,
)
from callsheet.runtime.checks.finding import Finding, HealthState

_PATIENCE: Final = timedelta(seconds=3)
#: No file has this digest, so the search finds nothing, and changes nothing.
_NOBODYS: Final = "0" * 64


class PayloadCheck:
    """Searches the media collection; to be closed at the end. *jitter*: a chance from 0 to 1."""

    name = "payload"
    is_essential = False

    def __init__(self, place: PayloadPlace, *, jitter: Callable[[], float]) -> None:
        self._place = place
        self._jitter = jitter
        self._client: PayloadClient | None = None

    async def look(self) -> Finding:
        """Return how PayloadCMS is now."""
        if self._client is None:
            # Looked at again soon enough: nothing is repeated within one look.
            self._client = PayloadClient(
                self._place, time_limit=_PATIENCE, jitter=self._jitter, waits=()
            )
        before = monotonic()
        try:
            await self._client.find_media(_NOBODYS)
        except PayloadError as error:
            return _finding(error)
        latency = timedelta(seconds=monotonic() - before)
        return Finding(state=HealthState.UP, detail=self._place.url, latency=latency)

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)


def _finding(error: PayloadError) -> Finding:
    match error:
        case PayloadUnavailable():
            reason = "it does not answer"
            mend = "bring it back, or set PAYLOAD_API_URL: what was not registered is tried again"
        case AccessRefused():
            reason = "it refuses the key"
            mend = "set PAYLOAD_API_KEY to that of a user who may read and create media"
        case AnswerMalformed():
            reason = "what answers is not as expected"
            mend = "set PAYLOAD_API_URL to its REST API, which ends in /api, and give its media "
            mend += "collection the unique text field of CALLSHEET_PAYLOAD_HASH_FIELD"
        case _:
            reason, mend = "it refuses a search", "look at its log"
    return Finding(state=HealthState.DOWN, reason=reason, detail=error.message, mend=mend)
