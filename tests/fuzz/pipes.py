"""The pipe between worker and runner: whatever one end sends, the other one stands it."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Final, cast

from google.protobuf.message import Message

from callsheet.internal.v1.pipe_pb2 import FromRunner, RunAttempt, ToRunner
from callsheet.runner.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    FrameSocket,
    PipeBroken,
    body_length,
    decode,
    encode,
)
from callsheet.runner.inbox import Inbox
from callsheet.worker.attempt_watch import AttemptWatch
from callsheet.worker.runner_process import RunnerProcess
from tests.fuzz.target import Check, Target, plain

_MOMENT: Final = timedelta(milliseconds=5)
#: What a frame of the fuzzed bytes may hold at most, so that it fits a socket's buffer.
_FITS: Final = 16 * 1024


def _frame(content: bytes) -> None:
    """A frame is one, and is then written as one that is read the same; or the pipe is broken."""
    for kind in (ToRunner, FromRunner):
        try:
            length = body_length(content[: HEADER.size].ljust(HEADER.size, b"\0"))
            assert length <= MAX_FRAME_BYTES
            message = decode(content[HEADER.size :], kind)
        except PipeBroken:
            continue
        again = encode(message)
        assert body_length(again[: HEADER.size]) == len(again) - HEADER.size
        read = decode(again[HEADER.size :], kind)
        assert _in_order(read) == _in_order(message)


def _in_order(message: Message) -> bytes:
    """Return the message's bytes with its maps in order; a NaN in it is equal to itself then."""
    return message.SerializeToString(deterministic=True)


def _to_runner(content: bytes) -> None:
    """A runner that hears nonsense takes no attempt twice, and says why nothing more comes."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        pipe = FrameSocket(theirs, send_timeout=_MOMENT, poll=_MOMENT)
        reasons: list[str] = []
        inbox = Inbox(pipe, on_gone=reasons.append)
        ours.sendall(content[:_FITS])
        ours.shutdown(socket.SHUT_WR)
        inbox._receive()  # pyright: ignore[reportPrivateUsage]  # what its thread does, here and now
        assert len(reasons) == 1
        assert reasons[0]
        pipe.close()


class _Child:
    """A runner's process that ended: what it had said is still in the pipe."""

    pid = 2**22  # beyond any process there is

    async def wait(self) -> int:
        """Return its exit code."""
        return 1

    def kill(self) -> None:
        """Do nothing: it has ended."""


class _Writer:
    """The worker's way out: nobody reads it."""

    def write(self, _: bytes) -> None:
        """Lose it."""

    def close(self) -> None:
        """Do nothing."""

    async def wait_closed(self) -> None:
        """Return."""


@contextmanager
def _from_runner() -> Generator[Check]:
    with asyncio.Runner() as runner:
        yield lambda content: runner.run(_watched(content))


async def _watched(content: bytes) -> None:
    """An attempt whose runner says whatever ends, once, as that attempt."""
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    process = RunnerProcess(
        cast("asyncio.subprocess.Process", _Child()),
        reader,
        cast("asyncio.StreamWriter", _Writer()),
    )
    watch = AttemptWatch(
        RunAttempt(task_id="t", attempt=1, task_type="ping"),
        time_limit=timedelta(seconds=10),
        grace_period=timedelta(seconds=10),
        memory_limit_bytes=None,
        on_progress=lambda _: None,
    )
    ended = await watch.until_end(process)
    assert ended.task_id == "t"
    assert ended.WhichOneof("outcome") is not None
    await process.end(within=_MOMENT)


TARGETS: Final = (
    plain(
        "frame",
        _frame,
        messages=((b"\0\0\0\x10", ToRunner), (b"\0\0\0\x10", FromRunner)),
    ),
    plain("to_runner", _to_runner),
    Target("from_runner", _from_runner),
)
