"""Who calls: the API key of a call's metadata, turned into its principal."""

from collections.abc import Iterable
from datetime import timedelta
from time import monotonic
from typing import Final

from callsheet.ledger.access import Principal
from callsheet.ledger.index import Keys
from callsheet.ledger.keys import recognise
from callsheet.ledger.redis_connection import RedisConnection

#: How long a key is believed without asking again; so a revoked one ends after this long.
BELIEVED: Final = timedelta(seconds=2)
#: Keys remembered at most; past it all are asked for anew.
REMEMBERED: Final = 10_000

Metadata = Iterable[tuple[str, str | bytes]]


class Authentication:
    """Knows the principals of the keys seen lately, and asks the ledger for the others."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, believed: timedelta = BELIEVED
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._believed = believed.total_seconds()
        self._known: dict[str, tuple[Principal, float]] = {}

    async def principal(self, metadata: Metadata) -> Principal:
        """Return whoever makes the call.

        Raises:
            KeyInvalid: no key was sent, or it is malformed, unknown or revoked.
        """
        text = key_text(metadata)
        now = monotonic()
        known = self._known.get(text)
        if known is not None and known[1] > now:
            return known[0]
        principal = await recognise(self._connection, self._keys, text)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[text] = (principal, now + self._believed)
        return principal


def key_text(metadata: Metadata) -> str:
    """Return the key of `authorization: Bearer <key>` or `x-api-key: <key>`; '' without one."""
    found = ""
    for name, value in metadata:
        if isinstance(value, bytes):
            continue
        if name == "authorization":
            scheme, _, key = value.partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
        if name == "x-api-key":
            found = value
    return found
