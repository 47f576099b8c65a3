"""Signatures of webhooks, as Standard Webhooks 1.0 defines them."""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final

_PREFIX: Final = "whsec_"


def signed_headers(secret: str, *, webhook_id: str, time: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers that prove who sent the body, and when.

    *secret* is of the form whsec_<base64>; *time* is that of this very try.
    """
    timestamp = str(int(time.timestamp()))
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    signed = b".".join((webhook_id.encode(), timestamp.encode(), body))
    digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii")
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{digest}",
    }
