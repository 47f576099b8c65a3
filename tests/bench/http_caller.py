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
        await self._post(_TIMED if timed else _PLAIN)

    async def many(self, count: int) -> None:
        """Post a batch of tasks. Raises SystemExit unless the answer is 202."""
        await self._post(_request("/batches", {"count": count}))

    async def _post(self, request: bytes) -> None:
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


def _request(path: str, asked: Mapping[str, object]) -> bytes:
    body = json.dumps(asked)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


_PLAIN: Final = _request("/tasks", {"timed": False})
_TIMED: Final = _request("/tasks", {"timed": True})
