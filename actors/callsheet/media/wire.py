"""What a reader and the process that decodes say to each other: messages with bytes behind them.

A message is the length of its JSON, the length of its payload, the JSON, the payload. The reader
believes nothing that it is sent: lengths are bounded, and fields are asked for by type.
"""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

HEADER: Final = struct.Struct("!IQ")
LARGEST_JSON: Final = 64 * 2**10

Message: TypeAlias = Mapping[str, object]


class WireBroken(Exception):
    """The other end is gone, or what it sends is no message."""


def sent(message: Message, payload: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """Return the buffers to be sent for a message."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return [HEADER.pack(len(body), len(payload)), body, payload]


def received(
    fill: Callable[[memoryview], None], *, largest_payload: int
) -> tuple[Message, bytearray]:
    """Return the next message and its payload. *fill* fills a buffer, or raises WireBroken."""
    header = bytearray(HEADER.size)
    fill(memoryview(header))
    length, size = cast("tuple[int, int]", HEADER.unpack(header))
    if length > LARGEST_JSON or size > largest_payload:
        raise WireBroken(f"a message of {length} and {size} bytes is larger than any")
    body, payload = bytearray(length), bytearray(size)
    fill(memoryview(body))
    fill(memoryview(payload))
    try:
        message: object = json.loads(body)
    except ValueError as error:
        raise WireBroken("a message is no JSON") from error
    if not isinstance(message, dict):
        raise WireBroken("a message is no object")
    return cast("dict[str, object]", message), payload


def send_all(pipe: socket.socket, buffers: list[bytes | memoryview]) -> None:
    """Send the buffers whole; raises OSError."""
    for buffer in buffers:
        if len(buffer):
            pipe.sendall(buffer)
