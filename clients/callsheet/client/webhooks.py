"""For receivers of webhooks: check that one is genuine and fresh, and read it.

Signatures follow Standard Webhooks (https://www.standardwebhooks.com). Pass the body exactly as it
arrived; a body that was parsed and written again has another signature.

    try:
        webhook = verify(await request.body(), request.headers, secrets=WEBHOOK_SECRET)
    except WebhookRejected as error:
        return Response(str(error), status_code=401)

A webhook may arrive more than once: ``webhook.id`` is the same each time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: How old, or how far in the future, a webhook may be.
DEFAULT_TOLERANCE: Final = timedelta(minutes=5)

#: The statuses of tasks that have ended.
FINAL_STATUSES: Final = frozenset({"completed", "failed"})

_PREFIX: Final = "whsec_"
_ID: Final = "webhook-id"
_TIMESTAMP: Final = "webhook-timestamp"
_SIGNATURE: Final = "webhook-signature"
_SCHEME: Final = "v1"
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class WebhookRejected(Exception):
    """The webhook is not to be trusted: answer 401 and do nothing."""


class HeaderMissing(WebhookRejected):
    """One of the three headers is missing or unreadable."""


class TimestampStale(WebhookRejected):
    """The webhook is too old or too new; it may be a replay."""


class SignatureInvalid(WebhookRejected):
    """No signature fits the body under any of the secrets."""


class BodyMalformed(WebhookRejected):
    """The webhook is genuine, but its body is not what this version understands."""


@dataclass(frozen=True)
class WebhookResult:
    """What a completed task made."""

    #: Where the first artifact can be fetched. None: there is none.
    media_url: str | None
    #: Its id in PayloadCMS's media collection. None: it was not registered.
    payload_media_id: str | None
    #: processing_time, tokens_used and output_data.
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Webhook:
    """What became of one task, or how far it is."""

    #: The same each time this webhook is delivered.
    id: str
    #: When this delivery was signed.
    time: datetime
    task_id: str
    #: ``completed`` or ``failed``; before the end ``queued`` or ``processing``.
    status: str
    project_id: str
    #: None: the task failed.
    result: WebhookResult | None
    #: Why the task failed, as the plane told it. None: it did not.
    error: Any
    #: The client's own words, as they were submitted.
    metadata: Mapping[str, Any]
    #: The whole body, with whatever a newer plane has added.
    body: Mapping[str, Any]
    #: ``completed``, ``failed`` or ``cancelled`` at the end of a task; else what was asked for:
    #: ``queued``, ``started``, ``progress``, ``retrying``, ``cancelled``. Empty: not told.
    event: str = ""
    #: The position of the fact; of progress, that of the last fact before it. Zero: not told.
    sequence: int = 0
    #: The number of the attempt. Zero: none was started.
    attempt: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the task has ended: a request to stop is ``cancelled`` and not the end."""
        return self.status in FINAL_STATUSES


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    *,
    now: datetime | None = None,
    tolerance: timedelta = DEFAULT_TOLERANCE,
) -> Webhook:
    """Return the webhook, after proving that a holder of one of the secrets signed it just now.

    ``secrets`` are of the form ``whsec_<base64>``; give both while one is being replaced.
    ``headers`` may be in any letter case. ``now`` must be aware; None asks the system's clock.

    Raises HeaderMissing, TimestampStale, SignatureInvalid, BodyMalformed (all WebhookRejected), and
    ValueError when a secret is not one or there is none.
    """
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("at least one webhook secret is needed")
    lowered = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (
        _header(lowered, name) for name in (_ID, _TIMESTAMP, _SIGNATURE)
    )
    time = _time(timestamp)
    _check_age(time, now=now or _system_time(), tolerance=tolerance)
    signed = b".".join((_bytes(webhook_id), _bytes(timestamp), body))
    if not _any_fits(signed, keys=keys, signatures=signatures):
        raise SignatureInvalid("no signature of the webhook fits its body")
    return _parse(body, webhook_id=webhook_id, time=time)


def _key(secret: str) -> bytes:
    encoded = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"a webhook secret is {_PREFIX} and base64")  # never quotes the secret
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise HeaderMissing(f"the header {name} is missing")
    return value


def _bytes(header: str) -> bytes:
    return header.encode("utf-8", "surrogateescape")  # as a server decodes what is not UTF-8


def _time(timestamp: str) -> datetime:
    if not _SECONDS.fullmatch(timestamp):
        raise HeaderMissing(f"the header {_TIMESTAMP} is not a number of seconds")
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (OverflowError, ValueError, OSError):
        raise TimestampStale("the webhook's timestamp is out of range") from None


def _system_time() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a receiver has no other clock to ask


def _check_age(time: datetime, *, now: datetime, tolerance: timedelta) -> None:
    age = now - time
    if age > tolerance:
        raise TimestampStale(f"the webhook is {age.total_seconds():.0f} seconds old")
    if age < -tolerance:
        raise TimestampStale(f"the webhook is {-age.total_seconds():.0f} seconds in the future")


def _any_fits(signed: bytes, *, keys: Sequence[bytes], signatures: str) -> bool:
    """Compare every signature under every key, in a time that tells nothing of either."""
    expected = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    fits = [
        hmac.compare_digest(digest, signature)
        for signature in _digests(signatures)
        for digest in expected
    ]
    return any(fits)


def _digests(signatures: str) -> Iterator[bytes]:
    """Yield the digests of our scheme; what is of another one, or unreadable, fits nothing."""
    for each in signatures.split():
        scheme, _, encoded = each.partition(",")
        if scheme != _SCHEME:
            continue
        try:
            yield base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue


def _parse(body: bytes, *, webhook_id: str, time: datetime) -> Webhook:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        raise BodyMalformed("the webhook's body is not JSON") from None
    fields = _mapping(parsed, "body")
    return Webhook(
        id=webhook_id,
        time=time,
        task_id=_text(fields, "task_id"),
        status=_text(fields, "status"),
        project_id=_text(fields, "project_id"),
        result=_result(fields.get("result")),
        error=fields.get("error"),
        metadata=_mapping(fields.get("metadata") or {}, "metadata"),
        body=fields,
        event=_optional_text(fields, "event") or "",
        sequence=_number(fields, "sequence"),
        attempt=_number(fields, "attempt"),
    )


def _result(value: object) -> WebhookResult | None:
    if value is None:
        return None
    fields = _mapping(value, "result")
    media_id: object = fields.get("payload_media_id")  # PayloadCMS counts on some databases
    return WebhookResult(
        media_url=_optional_text(fields, "media_url"),
        payload_media_id=None if media_id is None else str(media_id),
        metadata=_mapping(fields.get("metadata") or {}, "result.metadata"),
    )


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BodyMalformed(f"the webhook's {name} is not a JSON object")
    return cast("dict[str, Any]", value)  # a JSON object's names are strings


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BodyMalformed(f"the webhook's {name} is not a string")
    return value


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BodyMalformed(f"the webhook's {name} is not a whole number")
    return value


def _optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)
