"""Links to artifacts: they open one file, to whoever has them, until they expire."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import quote, urlencode

import structlog

from callsheet.gateway.problems import Refused
from callsheet.runtime.secrets import keep_secret, read_secret
from callsheet.runtime.settings import Settings

#: Where development keeps the key that it makes itself.
KEY_FILE: Final = "gateway-link.key"
#: The path of a link, before the artifact's key.
PATH: Final = "/api/v1/artifacts"
_KEY_BYTES: Final = 32

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Links:
    """Signs links, and tells whether a link is one of its own."""

    def __init__(self, key: bytes, *, time: timedelta, now: Callable[[], datetime]) -> None:
        """*time*: how long a link is good for."""
        self._key = key
        self._time = time
        self._now = now

    def link(self, artifact_key: str, *, media_type: str) -> tuple[str, datetime]:
        """Return the path and query of a link to the artifact, and when it expires."""
        expire_time = self._now() + self._time
        expires = str(int(expire_time.timestamp()))
        query = {
            "type": media_type,
            "expires": expires,
            "signature": self._signature(artifact_key, media_type, expires),
        }
        return f"{PATH}/{quote(artifact_key)}?{urlencode(query)}", expire_time

    def check(self, artifact_key: str, *, media_type: str, expires: str, signature: str) -> None:
        """Raise Refused, 403, unless the link is one of these and has not expired."""
        wanted = self._signature(artifact_key, media_type, expires)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN, "LINK_INVALID", "the link was not made here, or was changed"
            )
        # It was signed, so it is a number.
        if int(expires) <= self._now().timestamp():
            raise Refused(HTTPStatus.FORBIDDEN, "LINK_EXPIRED", "the link has expired")

    def _signature(self, artifact_key: str, media_type: str, expires: str) -> str:
        signed = f"callsheet-artifact-link\n{artifact_key}\n{media_type}\n{expires}"
        digest = hmac.digest(self._key, signed.encode("utf-8", "replace"), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")


def link_key(settings: Settings) -> bytes:
    """Return what links are signed with: the setting's, or one made here.

    In development it is kept in the state folder, for all gateways of it; elsewhere it is this
    process's own, and the log says so. Raises SecretUnusable when others may read the kept one.
    """
    if settings.gateway_link_key is not None:
        return settings.gateway_link_key.get_secret_value().encode()
    if settings.environment == "development":
        path = settings.state_dir / KEY_FILE
        if not path.exists():
            keep_secret(path, secrets.token_urlsafe(_KEY_BYTES))
        return read_secret(path).encode()
    _log.warning(
        "link_key_made",
        reason="CALLSHEET_GATEWAY_LINK_KEY is not set: links to artifacts"
        " open at this gateway alone, and end with it",
    )
    return secrets.token_bytes(_KEY_BYTES)
