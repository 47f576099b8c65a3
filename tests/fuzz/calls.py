"""Every call of every service, over a real server: raw bytes, with a key that may do anything."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zlib import crc32

from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio
from structlog.testing import capture_logs

from callsheet.embedded.valkey import EmbeddedValkey
from tests.fuzz.target import Check, Target
from tests.support.contract import CALLS
from tests.support.controls import Plane, running_plane, told
from tests.support.snapshots import Entry, snapshot

_HEALTH: Final = "grpc.health.v1.Health/Check"
NAMES: Final = (*CALLS, _HEALTH)
#: A watch, or a wait, of a task that has not ended takes as long as its client allows.
_PATIENCE: Final = 0.2
_SLOW: Final = frozenset({"TaskService/WaitTask", "TaskService/WatchTask"})
#: An answer that never comes is what a fuzzer must notice.
_HANGS: Final = 20.0
#: What no input may be answered with.
_NEVER: Final = frozenset({StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE})
#: Entries past which the ledger is emptied, so that looking at all of it stays cheap.
_MANY: Final = 4_000


@dataclass
class _Ledger:
    """What the cell keeps, as it was seen last."""

    plane: Plane
    seen: frozenset[Entry] = frozenset()

    async def look(self) -> frozenset[Entry]:
        """Return all that is there, and remember it."""
        before, self.seen = self.seen, await snapshot(self.plane.redis, self.plane.cell.keys.prefix)
        return before


def split(content: bytes) -> tuple[str, bytes]:
    """Return the call that the first line names, and the bytes for it; some call for any line."""
    line, _, rest = content.partition(b"\n")
    name = line.decode("ascii", "replace")
    return (name, rest) if name in NAMES else (NAMES[crc32(line) % len(NAMES)], rest)


@contextmanager
def _served() -> Generator[Check]:
    with TemporaryDirectory() as folder, asyncio.Runner() as runner, capture_logs() as logs:
        stack = AsyncExitStack()
        ledger = runner.run(stack.enter_async_context(_plane(Path(folder))))

        def check(content: bytes) -> None:
            logs.clear()
            runner.run(_asked(ledger, *split(content)))
            loud = [entry for entry in logs if entry["log_level"] in {"error", "critical"}]
            assert loud == []

        try:
            yield check
        finally:
            runner.run(stack.aclose())


@asynccontextmanager
async def _plane(folder: Path) -> AsyncGenerator[_Ledger]:
    server = EmbeddedValkey(folder)
    await asyncio.to_thread(server.start)
    try:
        async with running_plane(server.url, "fuzz") as plane:
            ledger = _Ledger(plane)
            await ledger.look()
            yield ledger
    finally:
        await asyncio.to_thread(server.stop)


async def _asked(ledger: _Ledger, name: str, content: bytes) -> None:
    """Make the call: what is refused, and what only reads, changes nothing."""
    client = ledger.plane.client
    full = name if name == _HEALTH else f"callsheet.v1.{name}"
    timeout = _PATIENCE if name in _SLOW else _HANGS
    method = CALLS.get(name)
    try:
        if method is not None and method.server_streaming:
            stream: aio.UnaryStreamMultiCallable[bytes, bytes] = client.channel.unary_stream(
                f"/{full}"
            )
            call = stream(content, metadata=client.metadata, timeout=timeout)
            await call.read()
            call.cancel()
        else:
            unary: aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
                f"/{full}"
            )
            answer = await unary(content, metadata=client.metadata, timeout=timeout)
            if method is not None:
                GetMessageClass(method.output_type).FromString(answer)
    except aio.AioRpcError as error:
        _is_well_refused(error, name)
        is_reading = True
    else:
        is_reading = method is None or _only_reads(name)
    before = await ledger.look()
    assert not is_reading or ledger.seen == before, f"{name} changed the ledger"
    if len(ledger.seen) > _MANY:
        await _emptied(ledger)


def _only_reads(name: str) -> bool:
    level = CALLS[name].GetOptions().idempotency_level
    return level == MethodOptions.NO_SIDE_EFFECTS


def _is_well_refused(error: aio.AioRpcError, name: str) -> None:
    refusal = told(error)
    if refusal.code is StatusCode.DEADLINE_EXCEEDED and name in _SLOW:
        return
    assert refusal.code not in _NEVER, f"{name}: {refusal}"
    assert refusal.reason, f"{name}: {refusal}"
    assert refusal.domain == "callsheet.dev"
    assert len(refusal.message) < 400


async def _emptied(ledger: _Ledger) -> None:
    """Forget the tasks, and keep who has a key."""
    keys = ledger.plane.cell.keys
    kept = {keys.api_keys, keys.epoch, keys.identity, keys.log}
    gone = {key for key, _ in ledger.seen} - kept
    if gone:
        await ledger.plane.redis.delete(*gone)
    await ledger.look()


TARGETS: Final = (
    Target(
        "calls",
        _served,
        messages=tuple(
            (f"{name}\n".encode(), GetMessageClass(method.input_type))
            for name, method in CALLS.items()
        ),
        examples=100,
    ),
)
