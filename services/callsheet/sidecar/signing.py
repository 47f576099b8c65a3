"""Signatures of webhooks, as Standard Webhooks 1.0 defines them."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

_PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key that a secret of the form whsec_<base64> stands for."""
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def signed_headers(
    keys: Sequence[bytes], *, webhook_id: str, time: datetime, body: bytes
) -> list[tuple[str, str]]:
    """Return the three headers that prove who sent the body, and when.

    Each of the *keys* signs, so that receivers may know either while a secret is rotated; *time* is
    that of this very try.
    """
    timestamp = str(int(time.timestamp()))
    signed = b".".join((webhook_id.encode(), timestamp.encode(), body))
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    signatures = (f"v1,{base64.b64encode(digest).decode('ascii')}" for digest in digests)
    return [
        ("webhook-id", webhook_id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", " ".join(signatures)),
    ]
