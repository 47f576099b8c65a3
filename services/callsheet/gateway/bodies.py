"""Reading what a request carries: JSON of bounded size, its fields by name, its query by name."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from http import HTTPStatus
from math import isfinite
from typing import Final, NoReturn, TypeVar, cast

from starlette.requests import Request

from callsheet.client.errors import Violation
from callsheet.gateway.edge import too_large
from callsheet.gateway.problems import Refused, invalid

#: The largest JSON body.
LARGEST_JSON: Final = 2**20
_JSON: Final = "application/json"
#: Spans past this are beyond what a timedelta holds; the contract's limits are far below.
_LONGEST_SECONDS: Final = 1e10

Word = TypeVar("Word", bound=str)


async def read_json(
    request: Request, *, limit: int = LARGEST_JSON, optional: bool = False
) -> dict[str, object]:
    """Return the JSON object in the body; with *optional* an absent one is empty.

    Raises Refused: 415 unless it is application/json in no encoding, 413 past *limit* bytes, 400
    with the position when it is no JSON, or when it is no object.
    """
    body = await read_body(request, limit=limit)
    if optional and not body:
        return {}
    require_media_type(request, _JSON)
    return as_object(decoded_json(body))


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the whole body. Raises Refused: 413 past *limit* bytes, 415 when it is encoded."""
    require_plain(request)
    if _announced(request) > limit:
        raise too_large(limit)
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise too_large(limit)
    return bytes(content)


def require_plain(request: Request) -> None:
    """Refuse, with 415, a compressed body: a small one may be a large one."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "ENCODING_UNSUPPORTED",
            "bodies are taken without a content-encoding",
            headers={"accept-encoding": "identity"},
        )


def require_media_type(request: Request, *wanted: str) -> str:
    """Return the body's media type. Raises Refused, 415, when it is none of those wanted."""
    found = media_type_of(request)
    if found not in wanted:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "MEDIA_TYPE_UNSUPPORTED",
            f"the content-type must be {' or '.join(wanted)}",
            headers={"accept": ", ".join(wanted)},
        )
    return found


def media_type_of(request: Request) -> str:
    """Return the media type that the request says its body has, without parameters; or ''."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def decoded_json(content: bytes) -> object:
    """Return what the JSON says.

    Raises Refused, 400: it is malformed (with line and column), not UTF-8, nested too deep, names
    a field twice, or has numbers or texts that no other reader would take.
    """
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is no UTF-8") from None
    except UnicodeEncodeError:
        raise _malformed("a text holds half of a surrogate pair") from None
    except RecursionError:
        raise _malformed("it is nested too deep") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    return cast("object", value)


def as_object(value: object) -> dict[str, object]:
    """Return the value. Raises Refused, 400, when it is no JSON object."""
    if not isinstance(value, dict):
        raise _malformed("it must be an object")
    return cast("dict[str, object]", value)


class Fields:
    """The fields of a request, asked for by name; what nobody asks for is refused.

    All that is wrong is collected, and told at once by ``done``.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)
        self._violations: list[Violation] = []

    def text(self, name: str, *, default: str = "", required: bool = False) -> str:
        """Return a text; null and an absent one are *default*."""
        value = self._taken(name, required=required)
        if value is None or isinstance(value, str):
            return default if value is None else value
        self._blame(name, "must be a text")
        return default

    def word(self, name: str, words: Iterable[Word]) -> Word | None:
        """Return one of the words; None: it is absent."""
        value = self._taken(name)
        known = list(words)
        if value is None or value in known:
            return cast("Word | None", value)
        self._blame(name, f"must be one of {', '.join(known)}")
        return None

    def words(self, name: str, words: Iterable[Word]) -> list[Word]:
        """Return a list of such words; an absent one is empty."""
        value = self._taken(name)
        known = list(words)
        if value is None:
            return []
        found = cast("list[object]", value) if isinstance(value, list) else [None]
        if all(each in known for each in found):
            return cast("list[Word]", found)
        self._blame(name, f"must be a list of {', '.join(known)}")
        return []

    def text_list(self, name: str) -> list[str]:
        """Return a list of texts; an absent one is empty."""
        value = self._taken(name)
        if value is None:
            return []
        found = cast("list[object]", value) if isinstance(value, list) else [None]
        if all(isinstance(each, str) for each in found):
            return cast("list[str]", found)
        self._blame(name, "must be a list of texts")
        return []

    def number(self, name: str, *, least: int, most: int) -> int | None:
        """Return a whole number, or the text of one in a query; None: it is absent."""
        value = self._taken(name)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
            value = int(value)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._blame(name, f"must be a whole number from {least} to {most}")
        return None

    def seconds(self, name: str) -> timedelta | None:
        """Return a span of time given in seconds; None: it is absent."""
        value = self._taken(name)
        if value is None:
            return None
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) < _LONGEST_SECONDS
            and isfinite(value)
        ):
            return timedelta(seconds=value)
        self._blame(name, "must be a number of seconds")
        return None

    def texts(self, name: str) -> dict[str, str]:
        """Return an object of texts; an absent one is empty."""
        value = self._taken(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._blame(name, "must be an object of texts")
            return {}
        entries = cast("dict[str, object]", value)
        for key, entry in entries.items():
            if not isinstance(entry, str):
                self._blame(f"{name}[{json.dumps(key[:64])}]", "must be a text")
        return {key: entry for key, entry in entries.items() if isinstance(entry, str)}

    def nested(self, name: str) -> dict[str, object]:
        """Return an object; an absent one is empty."""
        value = self._taken(name)
        if value is None or isinstance(value, dict):
            return cast("dict[str, object]", value or {})
        self._blame(name, "must be an object")
        return {}

    def done(self) -> None:
        """Raise Refused, 400, when something was wrong, or a field is left that nobody knows."""
        for name in self._values:
            self._blame(name, "there is no such field")
        if self._violations:
            raise invalid(self._violations)

    def _taken(self, name: str, *, required: bool = False) -> object:
        value = self._values.pop(name, None)
        if value is None and required:
            self._blame(name, "is required")
        return value

    def _blame(self, name: str, description: str) -> None:
        self._violations.append(Violation(name[:128], description))


def query_fields(request: Request) -> Fields:
    """Return the fields of the query. Raises Refused, 400, when one is given twice."""
    values: dict[str, object] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise invalid([Violation(name[:128], "is given twice")])
        values[name] = value
    return Fields(values)


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice[:64]!r} is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _malformed(what: str) -> Refused:
    return Refused(
        HTTPStatus.BAD_REQUEST, "JSON_MALFORMED", f"the body is no JSON that can be read: {what}"
    )
