"""Which Redis has which role: what may be lost is kept apart from the ledger, which may not.

Where nothing else is said, sessions and cache are databases of the ledger's server.
"""

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SESSIONS_DATABASE: Final = 1
CACHE_DATABASE: Final = 2


def role_url(given: str | None, *, ledger: str | None, database: int) -> str | None:
    """Return the URL that was given, or that database of the ledger's server. None: neither is."""
    return given or other_database(ledger, database)


def other_database(url: str | None, database: int) -> str | None:
    """Return the URL with another database of the same server; None for None."""
    if url is None:
        return None
    parts = urlsplit(url)
    options = [(name, value) for name, value in parse_qsl(parts.query) if name != "db"]
    # Among the options it counts for every kind of URL; in the path for redis:// alone.
    query = urlencode([*options, ("db", str(database))])
    if parts.scheme == "unix":
        return f"unix://{parts.netloc}{parts.path}?{query}"
    return urlunsplit((parts.scheme, parts.netloc, "", query, ""))
