"""Tokens of pages: where a list goes on, and which list it is."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import Final

from callsheet.ledger.errors import PageTokenInvalid

#: A number of a list, or microseconds until the year 5138: exact as a score.
_PLACE: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


def page_token(place: int, *, of: str) -> str:
    """Return the token of the page after the place; *of* says all that the list depends on."""
    return urlsafe_b64encode(f"1.{_fingerprint(of)}.{place}".encode()).decode()


def parse_page_token(token: str, *, of: str) -> int | None:
    """Return the place that a token tells; None for the empty one.

    Raises:
        PageTokenInvalid: the token is not of this list.
    """
    if not token:
        return None
    try:
        version, fingerprint, place = urlsafe_b64decode(token).decode().split(".")
    except (Base64Error, UnicodeError, ValueError) as error:
        raise PageTokenInvalid from error
    if version != "1" or fingerprint != _fingerprint(of) or not _PLACE.fullmatch(place):
        raise PageTokenInvalid
    return int(place)


def _fingerprint(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
