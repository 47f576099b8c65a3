"""A webhook receiver that costs next to nothing: answers 204, and tells what came and how late."""

import asyncio
import json
import re
import sys
import time
from datetime import datetime

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Receiver:
    """Counts webhooks, and keeps how many milliseconds after its fact each one came."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.lateness: list[float] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                writer.write(self._answer(head, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET"):
            told: int | list[float] = len(self.ids)
            if head.startswith(b"GET /lateness"):
                told, self.lateness = self.lateness, []
            content = json.dumps(told).encode()
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)
        now = time.time()
        event = json.loads(body)
        happened = datetime.fromisoformat(event["occurred_at"]).timestamp()
        self.ids.add(f"{event['task_id']}/{event['sequence']}")
        self.lateness.append(1000 * (now - happened))
        return b"HTTP/1.1 204 No Content\r\n\r\n"


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Receiver(), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
