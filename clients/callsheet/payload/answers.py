"""What PayloadCMS answers: documents, and refusals turned into errors of ours."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

from callsheet.payload.errors import (
    AccessRefused,
    AnswerMalformed,
    MediaTooLarge,
    PayloadError,
    PayloadUnavailable,
    RequestRefused,
)

_LONGEST_REASON: Final = 300
_LONGEST_WAIT: Final = timedelta(hours=1)
#: Refusals that pass by themselves: too slow, too early, too many.
_PASSING: Final = frozenset({408, 425, 429})
#: It asks everybody to come back later.
_AWAY: Final = frozenset({429, 503})
#: A gateway has waited for it long enough; what it was asked may still be done.
_OPEN: Final = frozenset({502, 504})

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class MediaDocument:
    """A document of the media collection."""

    id: str
    #: Where the file is served, as PayloadCMS says it. Empty: it does not say.
    url: str
    filename: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body, read whole; *retry_after* is what was asked for in seconds."""

    status: int
    body: bytes
    retry_after: str = ""

    def json(self) -> Json:
        """Return the body of a success. Raises the error that it stands for otherwise."""
        if not 200 <= self.status < 300:
            raise self.refusal()
        fields = _parsed(self.body)
        if fields is None:
            raise AnswerMalformed(f"{self.status} without a JSON object")
        return fields

    def refusal(self) -> PayloadError:
        """Return the error that an answer other than a success stands for."""
        fields = _parsed(self.body) or {}
        reason = _reason(fields) or "without a reason"
        match self.status:
            case 401 | 403:
                return AccessRefused(self.status, reason)
            case 413:
                return MediaTooLarge(reason, limit=_limit(fields))
            case status if status >= 500 or status in _PASSING:
                return PayloadUnavailable(
                    f"PayloadCMS answered {status}: {reason}",
                    retry_after=_wait(self.retry_after),
                    is_away=status in _AWAY,
                    is_open=status in _OPEN,
                )
            case status if 300 <= status < 400:
                return RequestRefused(status, "redirects are not followed")
            case status if status >= 400:
                return RequestRefused(status, reason, clash=_is_clash(fields))
            case status:
                return AnswerMalformed(f"the status {status}")


def document(fields: object) -> MediaDocument:
    """Return the document in an answer. Raises AnswerMalformed."""
    if not isinstance(fields, dict):
        raise AnswerMalformed("there is no document where one should be")
    known = cast("dict[str, object]", fields)
    match known.get("id"):
        case bool():
            identity = ""
        case int() | str() as found:
            identity = str(found)
        case _:
            identity = ""
    if not identity:
        raise AnswerMalformed("a document without an id")
    return MediaDocument(identity, _text(known.get("url")), _text(known.get("filename")))


def _parsed(body: bytes) -> Json | None:
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("Json", fields) if isinstance(fields, dict) else None


def _reason(fields: Json) -> str:
    """Return what the first error says, with the fields it is about."""
    for error in _errors(fields):
        parts = [_text(error.get("message")), *(f"{path}: {why}" for path, why in _invalid(error))]
        return " ".join(part for part in parts if part)[:_LONGEST_REASON]
    return _text(fields.get("message"))[:_LONGEST_REASON]


def _errors(fields: Json) -> Iterator[Json]:
    yield from _objects(fields.get("errors"))


def _invalid(error: Json) -> Iterator[tuple[str, str]]:
    """Yield (path, message) of each field that an error is about."""
    details = error.get("data")
    if isinstance(details, dict):
        for each in _objects(cast("Json", details).get("errors")):
            yield _text(each.get("path")), _text(each.get("message"))


def _objects(value: object) -> Iterator[Json]:
    if isinstance(value, list):
        for each in cast("list[object]", value):
            if isinstance(each, dict):
                yield cast("Json", each)


def _is_clash(fields: Json) -> bool:
    return any("unique" in why.lower() for error in _errors(fields) for _, why in _invalid(error))


def _limit(fields: Json) -> int | None:
    for error in _errors(fields):
        details = error.get("data")
        size = cast("Json", details).get("size") if isinstance(details, dict) else None
        if isinstance(size, int):
            return size
    return None


def _wait(retry_after: str) -> timedelta | None:
    """Return the wait that was asked for in seconds; a date is not understood here."""
    if not retry_after.isascii() or not retry_after.isdigit():
        return None
    return min(timedelta(seconds=int(retry_after[:9])), _LONGEST_WAIT)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
