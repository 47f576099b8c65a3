"""A small webhook receiver on loopback, for the demo."""

import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Final, Self

_LARGEST_BODY: Final = 1024 * 1024


@dataclass(frozen=True)
class Received:
    """One webhook as it came in, and when, by the monotonic clock."""

    headers: dict[str, str]
    body: bytes
    monotonic_seconds: float


class Receiver:
    """Answers every POST with 204 and keeps it; a context manager."""

    def __init__(self) -> None:
        self.received: SimpleQueue[Received] = SimpleQueue()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length", "0")), _LARGEST_BODY)
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                received.put(Received(headers, body, time.monotonic()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its base's name
                """Say nothing: the demo itself tells what came."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/webhooks/task-complete"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
