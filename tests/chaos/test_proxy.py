"""The proxy does to a link what its counts say."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.chaos.proxy import HTTP, Link, has_http2_content
from tests.support.eventually import eventually

ASK = b"POST / HTTP/1.1\r\n\r\n"


class Server:
    """Answers each request with its number."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while chunk := await reader.read(1 << 16):
            self.asked += chunk.count(b"POST")
            writer.write(b"%d" % self.asked)
        writer.close()


@asynccontextmanager
async def linked() -> AsyncGenerator[tuple[Link, Server]]:
    server = Server()
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    link = Link("client>server", listener.sockets[0].getsockname()[1], HTTP)
    await link.listen()
    try:
        yield link, server
    finally:
        await link.close()
        listener.close()


async def dialled(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """Whether the line ends, politely or not, without another byte."""
    try:
        return not await reader.read(10)
    except ConnectionResetError:
        return True


async def test_a_link_without_a_fault_carries_everything() -> None:
    async with linked() as (link, _):
        reader, writer = await dialled(link)
        for number in (b"1", b"2"):
            writer.write(ASK)
            assert await reader.read(10) == number
        writer.close()
        assert not link.done


async def test_a_lost_reply_is_of_a_request_that_was_executed() -> None:
    async with linked() as (link, server):
        link.lose_replies(1)
        reader, writer = await dialled(link)
        writer.write(ASK)
        assert await is_cut(reader)
        writer.close()
        assert (server.asked, link.done["cut_after"]) == (1, 1)
        # The next one is answered.
        reader, writer = await dialled(link)
        writer.write(ASK)
        assert await reader.read(10) == b"2"
        writer.close()


async def test_a_cut_ends_every_connection_and_counts_them() -> None:
    async with linked() as (link, _):
        lines = [await dialled(link) for _ in range(3)]
        for reader, writer in lines:
            writer.write(ASK)
            await reader.read(10)
        assert link.cut() == 3
        for reader, writer in lines:
            assert await is_cut(reader)
            writer.close()
        assert link.done["cut"] == 3


async def test_what_is_dropped_reaches_nobody_and_its_line_is_cut_when_all_is_healed() -> None:
    async with linked() as (link, server):
        reader, writer = await dialled(link)
        writer.write(ASK)
        assert await reader.read(10) == b"1"
        link.drop()
        writer.write(ASK)

        async def dropped() -> int:
            return link.done["drop"]

        assert await eventually(dropped) == 1
        assert server.asked == 1
        link.heal()
        assert await is_cut(reader)
        writer.close()


async def test_what_is_delayed_arrives_and_is_counted() -> None:
    async with linked() as (link, _):
        link.delay(timedelta(milliseconds=5))
        reader, writer = await dialled(link)
        writer.write(ASK)
        assert await reader.read(10) == b"1"
        assert link.done["delay"] == 2  # there and back
        writer.close()


@pytest.mark.parametrize(
    ("kinds", "has_content"),
    [([4], False), ([8, 6], False), ([1], True), ([8, 0], True), ([], False)],
)
def test_only_headers_and_content_of_http2_ask_or_answer(
    kinds: list[int], *, has_content: bool
) -> None:
    """4 are settings, 6 pings, 8 windows: all of them come without a request."""
    frames = b"".join(bytes([0, 0, 2, kind, 0, 0, 0, 0, 0]) + b"xx" for kind in kinds)
    assert has_http2_content(frames) == has_content
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert has_http2_content(preface + frames) == has_content
