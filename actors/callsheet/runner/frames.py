"""Frames between worker and runner: four bytes of length, then the bytes of one message."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

HEADER: Final = struct.Struct(">I")
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024

M = TypeVar("M", bound=Message)


class PipeBroken(Exception):
    """The other side is gone, hangs, or sends what is no frame."""


def encode(message: Message) -> bytes:
    """Return the frame of a message; raises PipeBroken when it is too large for one."""
    body = message.SerializeToString()
    if len(body) > MAX_FRAME_BYTES:
        raise PipeBroken(f"a frame of {len(body)} bytes is more than {MAX_FRAME_BYTES}")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Return how many bytes follow a header; raises PipeBroken when they are too many."""
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise PipeBroken(f"a frame of {length} bytes is more than {MAX_FRAME_BYTES}")
    return length


def decode(body: bytes, kind: type[M]) -> M:
    """Return the message of a frame's body; raises PipeBroken when it is none."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise PipeBroken(f"a frame is no {kind.DESCRIPTOR.name}") from error


class FrameSocket:
    """The runner's blocking end of the pipe: one thread receives, any may send."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        send_timeout: timedelta = timedelta(seconds=30),
        poll: timedelta = timedelta(milliseconds=500),
        still_there: Callable[[], bool] = lambda: True,
    ) -> None:
        """While nothing arrives, still_there is asked once every poll; False breaks the pipe."""
        # Two objects for one socket, because each has its own timeout.
        self._incoming = connection
        self._incoming.settimeout(poll.total_seconds())
        self._outgoing = connection.dup()
        self._outgoing.settimeout(send_timeout.total_seconds())
        self._still_there = still_there
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message; raises PipeBroken when the other side is gone or takes too long."""
        frame = encode(message)
        try:
            with self._sending:
                self._outgoing.sendall(frame)
        except OSError as error:  # a timeout is one, too
            raise PipeBroken(f"nobody takes what is sent: {error}") from error

    def receive(self, kind: type[M]) -> M:
        """Return the next message; raises PipeBroken when the other side is gone."""
        length = body_length(self._exactly(HEADER.size))
        return decode(self._exactly(length), kind)

    def close(self) -> None:
        """Tell the other side that nothing more comes; whoever receives here is told as well."""
        with suppress(OSError):  # the other side may be gone already
            self._outgoing.shutdown(socket.SHUT_RDWR)
        self._outgoing.close()

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                part = self._incoming.recv(size - len(received))
            except TimeoutError:
                if self._still_there():
                    continue
                raise PipeBroken("the parent process is gone") from None
            except OSError as error:
                raise PipeBroken(f"nothing can be received: {error}") from error
            if not part:
                raise PipeBroken("the other side closed the pipe")
            received += part
        return bytes(received)
