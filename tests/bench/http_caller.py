"""An HTTP client that costs little: it shares the cores with what is measured."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class HttpCaller:
    """Posts tasks over one kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __call__(self, *, timed: bool = False) -> None:
        """Post one task. Raises SystemExit unless the answer is 202."""
        await self.post(_TIMED if timed else _PLAIN)

    async def many(self, count: int) -> None:
        """Post a batch of tasks. Raises SystemExit unless the answer is 202."""
        await self.post(http_request("/batches", {"count": count}))

    async def post(self, request: bytes) -> None:
        """Send a request of http_request. Raises SystemExit unless the answer is 202."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(b"HTTP/1.1 202 "):
            raise SystemExit(f"a task was not accepted: {head + body!r}")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def dial(port: int) -> HttpCaller:
    """Connect. Raises OSError while nobody listens."""
    return HttpCaller(*await asyncio.open_connection("127.0.0.1", port))


def http_request(
    path: str, asked: Mapping[str, object], *, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a POST of JSON, as it goes over the wire."""
    body = json.dumps(asked)
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


_PLAIN: Final = http_request("/tasks", {"timed": False})
_TIMED: Final = http_request("/tasks", {"timed": True})
