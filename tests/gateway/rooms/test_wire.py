"""The socket itself: what a hostile peer sends, or does not read, costs nobody else."""

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from callsheet.gateway.rooms import wire as wires_module
from tests.support.controls import until
from tests.support.gateways import PATIENCE, RunningGateway
from tests.support.room_clients import narrow, present, wires

#: Frames of a client's that hold nothing: a ping, a text, and the piece of a text.
PING: Final = b"\x89\x80\x00\x00\x00\x00"
TEXT: Final = b"\x81\x80\x00\x00\x00\x00"
PIECE: Final = b"\x00\x80\x00\x00\x00\x00"
BEGIN: Final = b"\x01\x80\x00\x00\x00\x00"
#: A ping of the largest size.
LARGE_PING: Final = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125


@asynccontextmanager
async def opened(gateway: RunningGateway) -> AsyncGenerator[socket.socket]:
    """Yield a socket with a small window, after the handshake and the welcome."""
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", gateway.gateway.server.port))
        await loop.sock_sendall(raw, handshake(gateway))
        head = b""
        async with asyncio.timeout(PATIENCE):
            while b"WELCOME" not in head:
                head += await loop.sock_recv(raw, 4096)
        yield raw


def handshake(gateway: RunningGateway) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET /ws HTTP/1.1\r\nHost: {gateway.host}\r\nX-API-Key: {gateway.key}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


async def poured(raw: socket.socket, flood: bytes) -> None:
    """Send the flood again and again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await asyncio.get_running_loop().sock_sendall(raw, flood)


async def test_a_flood_of_frames_ends_its_connection_alone(gateway: RunningGateway) -> None:
    peers = gateway.gateway.beside.rooms.peers
    async with present(gateway.host, gateway.key) as other:
        for flood in (PING * 100_000, TEXT * 100_000, BEGIN + PIECE * 100_000):
            async with opened(gateway) as raw:
                assert len(peers) == 2
                with pytest.raises(ConnectionError):
                    await poured(raw, flood)
                await until(lambda: len(peers) == 1)
        assert (await other.ask("PING"))["type"] == "PONG"


async def test_who_reads_no_answers_is_not_read(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings are answered at once; the answers that nobody takes do not pile up."""
    monkeypatch.setattr(wires_module, "FRAMES_AT_ONCE", 10**9)
    async with opened(gateway) as raw:
        narrow(gateway)
        (wire,) = wires(gateway)
        sending = asyncio.ensure_future(
            asyncio.get_running_loop().sock_sendall(raw, LARGE_PING * 200_000)
        )
        await until(lambda: not wire.writable.is_set())
        assert wire.transport.get_write_buffer_size() < 2**20
        assert not wire.transport.is_reading()
        assert not sending.done()
        sending.cancel()


async def test_compression_is_not_offered(gateway: RunningGateway) -> None:
    """A small compressed message may be a large one."""
    async with present(gateway.host, gateway.key) as client:
        assert client.socket.response is not None
        assert "sec-websocket-extensions" not in client.socket.response.headers
