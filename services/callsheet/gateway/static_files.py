"""The dashboard: its built files, from memory, under a policy that lets nothing else run."""

import mimetypes
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

#: Where the build is, beside this module; nobody serves a dashboard where it is absent.
FOLDER: Final = Path(__file__).with_name("static")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Names with a digest in them, as the build makes them: what they hold never changes.
_HASHED: Final = re.compile(r".*[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_INDEX: Final = "index.html"


Answering = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: Mapping[str, str]


class StaticFiles:
    """The files of a folder, read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = dict(_read(folder)) if (folder / _INDEX).is_file() else {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes: one for each file; none without a build."""
        paths = {f"/{name}": name for name in self._files}
        if paths:
            paths["/"] = _INDEX
        return [
            Route(path, self._answering(name), methods=["GET"], include_in_schema=False)
            for path, name in paths.items()
        ]

    def _answering(self, name: str) -> Answering:
        file = self._files[name]

        async def answer(request: Request) -> Response:
            if request.headers.get("if-none-match") == file.headers["etag"]:
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=file.headers)
            return Response(file.content, headers=file.headers)

        return answer


def _read(folder: Path) -> Iterator[tuple[str, _File]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            content = path.read_bytes()
            yield name, _File(content, MappingProxyType(_headers(name, content)))


def _headers(name: str, content: bytes) -> dict[str, str]:
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    text = media_type.startswith("text/") or media_type.endswith(("javascript", "json", "xml"))
    return {
        "content-type": f"{media_type}; charset=utf-8" if text else media_type,
        "cache-control": _FOR_EVER if _HASHED.fullmatch(name) else "no-cache",
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
        "content-security-policy": _POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
    }
