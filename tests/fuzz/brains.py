"""Both ends of the brain's protocol: our client before a hostile server, and the reverse."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast
from zlib import crc32

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainError
from callsheet.brain.tools import Tool
from callsheet.brain.transport import Dialling
from callsheet.embedded.brain.brain import Brain as EmbeddedBrain
from callsheet.embedded.brain.embedder import Embedder
from callsheet.embedded.brain.filling import VectorFiller
from callsheet.embedded.brain.front import Front, Patience
from callsheet.embedded.brain.graph import Graph
from callsheet.embedded.brain.mcp_server import mcp_server
from callsheet.embedded.brain.tools import Toolbox
from tests.fuzz.target import Check, Target
from tests.support.brains import fact

_TOKEN: Final = "a-token-of-the-brain"
_SOON: Final = timedelta(seconds=20)
_NOON: Final = datetime(2027, 3, 1, 12, tzinfo=UTC)
_MCP: Final = Subprotocol("mcp")
#: Stands in a corpus for the id of the call that is answered.
_ID: Final = b"$ID"
#: What begins a frame that is sent as bytes, not as text.
_BINARY: Final = b"\x01"
_HASTE: Final = Patience(open=timedelta(milliseconds=200), close=timedelta(milliseconds=200))
#: With which a side may end a connection that has spoken nonsense.
_CLOSED_WITH: Final = frozenset({1000, 1002, 1003, 1007, 1008, 1009})
_GOOD: Final = {"status": "ok", "events": 1, "version": "hostile"}


async def _say(socket: Connection, content: bytes) -> None:
    """Send the frames, which zero bytes keep apart."""
    for frame in content.split(b"\0"):
        if frame.startswith(_BINARY):
            await socket.send(frame[1:])
        else:
            await socket.send(frame, text=True)


class _HostileServer:
    """Introduces itself well, and answers each call with the fuzzed frames, then as it should."""

    def __init__(self) -> None:
        self.frames = b""

    async def converse(self, socket: ServerConnection) -> None:
        """Serve one client until it has gone."""
        with suppress(ConnectionClosed):
            async for message in socket:
                asked = cast("dict[str, Any]", json.loads(message))
                if "id" in asked and "method" in asked:
                    await self._answer(socket, asked)

    async def _answer(self, socket: ServerConnection, asked: dict[str, Any]) -> None:
        result: dict[str, object]
        match asked["method"]:
            case "initialize":
                version = asked["params"]["protocolVersion"]
                named = {"name": "hostile", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {}, "serverInfo": named}
            case "tools/list":
                schema = {"type": "object"}
                tools = [{"name": tool.value, "inputSchema": schema} for tool in Tool]
                result = {"tools": tools}
            case _:
                frames, self.frames = self.frames, b""
                if frames:
                    await _say(socket, frames.replace(_ID, json.dumps(asked["id"]).encode()))
                result = {"content": [], "structuredContent": _GOOD}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}))


@contextmanager
def _client() -> Generator[Check]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        server = _HostileServer()
        brain = runner.run(stack.enter_async_context(_connected(server)))
        try:
            yield lambda content: runner.run(_called(server, brain, content))
        finally:
            runner.run(stack.aclose())


@asynccontextmanager
async def _connected(server: _HostileServer) -> AsyncGenerator[Brain]:
    async with serve(server.converse, "127.0.0.1", 0, subprotocols=[_MCP]) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        dialling = Dialling(url=f"ws://127.0.0.1:{port}/mcp")
        async with Brain(dialling, jitter=lambda: 0.0, time_limit=_SOON) as brain:
            yield brain


async def _called(server: _HostileServer, brain: Brain, content: bytes) -> None:
    """A call is answered, or it is one of our errors; the next one finds the brain well."""
    assert await brain.connection.until_connected(timeout=_SOON)
    server.frames = content
    calls: tuple[Callable[[], Coroutine[Any, Any, object]], ...] = (
        lambda: brain.query_knowledge("default", "a cat"),
        lambda: brain.get_task_history("default", limit=3),
        lambda: brain.search_similar_tasks("default", "a cat", limit=3),
        lambda: brain.store_task_events([fact("t", 1)]),
        lambda: brain.get_cached_result("default", key="k"),
        brain.health_check,
    )
    with suppress(BrainError):
        await calls[crc32(content) % len(calls)]()
    server.frames = b""
    async with asyncio.timeout(_SOON.total_seconds()):
        while not await _is_well(brain):
            await brain.connection.until_connected(timeout=_SOON)


async def _is_well(brain: Brain) -> bool:
    try:
        return (await brain.health_check()).status == "ok"
    except BrainError:  # the connection ended with the nonsense; the next one is made at once
        return False


class _Errors(logging.Handler):
    """Keeps what was logged with a traceback, or as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.found.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


@contextmanager
def _embedded(
    check: Callable[[int, bytes], Coroutine[Any, Any, None]],
) -> Generator[Check]:
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        port = runner.run(stack.enter_async_context(_listening(Path(folder))))

        def checked(content: bytes) -> None:
            errors.found.clear()
            runner.run(check(port, content))
            assert errors.found == []

        try:
            yield checked
        finally:
            runner.run(stack.aclose())
            logging.getLogger().removeHandler(errors)


@asynccontextmanager
async def _listening(folder: Path) -> AsyncGenerator[int]:
    async with Graph(folder / "brain") as graph:
        embedder = Embedder()
        brain = EmbeddedBrain(graph, embedder, VectorFiller(graph, embedder), now=lambda: _NOON)
        toolbox = Toolbox(brain)
        front = Front(mcp_server(toolbox), toolbox, token=_TOKEN, patience=_HASTE)
        async with front.listening("127.0.0.1", 0) as listener:
            yield cast("int", listener.sockets[0].getsockname()[1])
        await embedder.close()


_numbers: Final = count(1)


async def _conversed(port: int, content: bytes) -> None:
    """Whatever a client says, it is answered afterwards, or told goodbye in the right words."""
    async with asyncio.timeout(_SOON.total_seconds()), _opened(port) as socket:
        mark = f"fuzz-{next(_numbers)}"
        try:
            await _say(socket, content)
            ping = {"jsonrpc": "2.0", "id": mark, "method": "ping"}
            await socket.send(json.dumps(ping))
            while json.loads(await socket.recv()).get("id") != mark:
                pass
        except ConnectionClosed:
            assert socket.close_code in _CLOSED_WITH, socket.close_code


def _opened(port: int) -> connect:
    return connect(
        f"ws://127.0.0.1:{port}/mcp",
        additional_headers={"Authorization": f"Bearer {_TOKEN}"},
        subprotocols=[_MCP],
        proxy=None,
        compression=None,
        close_timeout=0.2,
    )


async def _knocked(port: int, content: bytes) -> None:
    """Whatever comes off the wire is answered in HTTP or hung up on, and the next one is served."""
    async with asyncio.timeout(_SOON.total_seconds()):
        said = await _exchanged(port, content)
        assert said == b"" or said.startswith(b"HTTP/1.1 "), said[:100]
        assert b" 500 " not in said.partition(b"\r\n")[0]
        health = await _exchanged(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in health.partition(b"\r\n")[0]


async def _exchanged(port: int, content: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        with suppress(ConnectionResetError):
            return await reader.read(65536)
        return b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


TARGETS: Final = (
    Target("brain_client", _client, examples=40),
    Target("brain_frames", lambda: _embedded(_conversed), examples=40),
    Target("brain_door", lambda: _embedded(_knocked), examples=20),
)
