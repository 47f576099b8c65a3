"""Who calls: an API key or a ticket, from a header or from the cookie of a signed-in browser."""

import hashlib
import re
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from callsheet.gateway.problems import Refused

#: The cookie that holds the ticket of a signed-in browser.
COOKIE: Final = "callsheet_session"

#: Methods that change nothing, so that a link on another site does no harm.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CREDENTIAL: Final = re.compile(r"[!-~]{1,4096}")


def credential_of(connection: HTTPConnection) -> str:
    """Return the caller's API key or ticket.

    A cookie counts only where the page that sends it is the gateway's own: always for a method
    that changes something and for a WebSocket. Raises Refused: 401 without a credential, or with
    what cannot be one; 403 with a cookie from another origin.
    """
    found = presented(connection.headers)
    if found is None:
        found = connection.cookies.get(COOKIE, "")
        if found and not is_safe(connection) and not is_same_origin(connection.headers):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "CROSS_ORIGIN",
                "a session's cookie is taken from the gateway's own pages only; send a key instead",
            )
    if not found:
        raise Refused(
            HTTPStatus.UNAUTHORIZED, "KEY_MISSING", "send an API key as X-API-Key, or sign in"
        )
    if not could_be_one(found):
        raise Refused(HTTPStatus.UNAUTHORIZED, "KEY_INVALID", "the API key is not valid")
    return found


def presented(headers: Headers) -> str | None:
    """Return the credential that stands in a header. None: there is no such header."""
    key = headers.get("x-api-key")
    if key is not None:
        return key.strip()
    authorization = headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def could_be_one(credential: str) -> bool:
    """Whether it has the shape of a key or a ticket; control is never asked about anything else."""
    return _CREDENTIAL.fullmatch(credential) is not None


def fingerprint(credential: str) -> str:
    """Return what stands for a credential in a table: short, and worth nothing to a thief."""
    return hashlib.blake2b(credential.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def is_safe(connection: HTTPConnection) -> bool:
    """Whether the request can change nothing."""
    return connection.scope["type"] == "http" and connection.scope["method"] in _SAFE


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of this very host.

    Browsers send Origin with every request that changes something and with every WebSocket, and
    no page can forge it. One that says neither is not believed.
    """
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
        except ValueError:  # nothing that a browser says
            return False
    return headers.get("sec-fetch-site") == "same-origin"
