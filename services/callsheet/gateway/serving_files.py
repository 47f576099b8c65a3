"""Answers that are files: in ranges, by their digest, and harmless to the page that shows them."""

import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactStoreError, KeyRefused
from callsheet.artifacts.store import ArtifactStore
from callsheet.gateway.problems import Refused

#: What a page may show; anything else is downloaded. An SVG can hold scripts.
_SHOWN: Final = re.compile(r"(image/(?!svg)|video/|audio/)[a-z0-9.+-]+")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_UNKNOWN: Final = "application/octet-stream"


async def file_answer(
    request: Request, store: ArtifactStore, key: str, *, media_type: str
) -> Response:
    """Return what stands under the key, or the range of it that is asked for.

    Raises Refused: 404 when nothing does, 416 for a range outside of it, 503 when the store is
    away.
    """
    try:
        size = await store.size(key)
    except (ArtifactNotFound, KeyRefused):
        raise not_found() from None
    except ArtifactStoreError as error:
        raise store_away(error) from error
    headers = _headers(request, key, media_type)
    if _is_known(request, headers["etag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    start, end = _range(request, size, headers["etag"])
    status = HTTPStatus.OK
    if (start, end) != (0, size):
        status = HTTPStatus.PARTIAL_CONTENT
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(store, key, start=start, end=end), status, headers)


def not_found() -> Refused:
    """Return the refusal of an artifact that is not there."""
    return Refused(HTTPStatus.NOT_FOUND, "ARTIFACT_NOT_FOUND", "there is no such artifact")


def store_away(error: ArtifactStoreError) -> Refused:
    """Return the refusal of a request that the store cannot serve now."""
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "ARTIFACT_STORE", error.message)


async def _pieces(
    store: ArtifactStore, key: str, *, start: int, end: int
) -> AsyncGenerator[bytes, None]:
    async for piece in store.read(key, start=start, end=end):
        yield piece


def _headers(request: Request, key: str, media_type: str) -> dict[str, str]:
    name = key.rpartition("/")[2]  # made of digits, a digest and a suffix
    if _SHOWN.fullmatch(media_type) is None:
        media_type = _UNKNOWN  # no page takes it for a script or a style
    is_shown = media_type != _UNKNOWN and "download" not in request.query_params
    return {
        "content-type": media_type,
        "content-disposition": f'{"inline" if is_shown else "attachment"}; filename="{name}"',
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
        # It never changes; but who signs out leaves it in the browser no longer than this.
        "cache-control": "private, max-age=3600",
        "etag": f'"{name.partition(".")[0]}"',
    }


def _is_known(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in [
        each.strip().removeprefix("W/") for each in known.split(",")
    ]


def _range(request: Request, size: int, etag: str) -> tuple[int, int]:
    """Return the bytes that are asked for: from the first, up to the second.

    More than one range, and one of another version, is answered with the whole.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or found.group(0) == "bytes=-":
        return 0, size
    if request.headers.get("if-range", etag) != etag:
        return 0, size
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= end:
        raise Refused(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "RANGE_UNSATISFIABLE",
            f"the file has {size} bytes",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end
