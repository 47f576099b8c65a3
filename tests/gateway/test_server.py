"""The server under a silent, a greedy and a broken peer: bounded, told why, and cut off."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from callsheet.gateway.app import Application
from callsheet.gateway.edge import Edge
from callsheet.gateway.limits import RateLimit
from callsheet.gateway.server import AddressTaken, Server, ServerLimits
from tests.support.controls import until

SOON = timedelta(milliseconds=200)
NEVER = timedelta(hours=1)
PATIENCE = 30.0
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Asked:
    """An application that remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.under_way = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False
        self.app = Application(
            [
                Route("/", self.answer, methods=["GET", "POST"]),
                Route("/refuse", self.refuse, methods=["POST"]),
                Route("/wait", self.wait),
                Route("/flood", self.flood),
                Route("/fail", self.fail),
                Route("/fail-late", self.fail_late),
            ]
        )

    async def answer(self, request: Request) -> Response:
        self.seen.append(request)
        return PlainTextResponse(str(len(await request.body())))

    async def refuse(self, request: Request) -> Response:
        return PlainTextResponse("no", 400)

    async def wait(self, request: Request) -> Response:
        self.under_way.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return PlainTextResponse("done")

    async def flood(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                self.under_way.set()
                yield bytes(2**20)

        return StreamingResponse(pieces())

    async def fail(self, request: Request) -> Response:
        raise RuntimeError("a defect with a secret in it")

    async def fail_late(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a part"
            raise RuntimeError("a defect")

        return StreamingResponse(pieces())


@asynccontextmanager
async def serving(
    limits: ServerLimits | None = None, *, silence: timedelta = NEVER
) -> AsyncGenerator[tuple[Asked, Server]]:
    """Yield an application behind a server with these limits."""
    application = Asked()
    edge = Edge(
        application.app,
        requests=RateLimit(per_second=1e6, burst=10**6),
        largest_body=2**30,
        silence=silence,
    )
    server = Server(edge, "127.0.0.1:0", limits=limits)
    await server.start()
    try:
        yield application, server
    finally:
        await server.stop(grace=timedelta())


async def dialled(server: Server) -> Line:
    """Return a new connection."""
    return await asyncio.open_connection("127.0.0.1", server.port)


async def said(line: Line, request: bytes = b"") -> bytes:
    """Send the bytes; return all that comes until the server hangs up."""
    reader, writer = line
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


def problem_in(answer: bytes) -> tuple[int, str]:
    """Return status and reason of a raw answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["reason"]


async def answered(line: Line, request: bytes = GET) -> bytes:
    """Send a request; return the head of its answer and what of its body came along."""
    line[1].write(request)
    async with asyncio.timeout(PATIENCE):
        return await line[0].readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    ],
    ids=["a long value", "a long path", "many fields"],
)
async def test_a_head_that_is_too_large_is_refused(request_bytes: bytes) -> None:
    async with serving() as (application, server):
        answer = await said(await dialled(server), request_bytes)
        assert problem_in(answer) == (431, "HEAD_TOO_LARGE")
        assert application.seen == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["nonsense", "two lengths", "both lengths", "a bad name", "a NUL", "TLS"],
)
async def test_what_is_no_http_is_refused(request_bytes: bytes) -> None:
    async with serving() as (application, server):
        answer = await said(await dialled(server), request_bytes)
        assert problem_in(answer) == (400, "REQUEST_MALFORMED")
        assert application.seen == []


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx: "])
async def test_who_does_not_finish_a_head_in_time_is_cut_off(sent: bytes) -> None:
    async with serving(ServerLimits(head_time=SOON)) as (application, server):
        assert await said(await dialled(server), sent) == b""
        assert application.seen == []


async def test_a_second_request_has_to_come_in_time_too() -> None:
    async with serving(ServerLimits(head_time=SOON, idle_time=timedelta(seconds=1))) as (_, server):
        line = await dialled(server)
        assert (await answered(line)).startswith(b"HTTP/1.1 200")
        assert await said(line, b"GET / HTTP/1.1\r\n") == b"0"  # the rest of the first answer


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async with serving(silence=SOON) as (_, server):
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc"
        answer = await said(await dialled(server), request)
        assert problem_in(answer) == (408, "BODY_TOO_SLOW")


async def test_a_body_that_comes_byte_by_byte_is_given_up() -> None:
    """It is never silent for long, and would hold its place for ever."""
    async with serving(silence=timedelta(seconds=1)) as (_, server):
        reader, writer = await dialled(server)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n")
        answer = asyncio.ensure_future(reader.read(65536))
        async with asyncio.timeout(PATIENCE):
            while not answer.done():
                writer.write(b"x")
                await asyncio.wait({answer}, timeout=SOON.total_seconds() / 2)
        writer.close()
        assert answer.result().startswith(b"HTTP/1.1 408 ")


async def test_who_reads_nothing_of_an_answer_is_cut_off() -> None:
    async with serving(silence=SOON) as (application, server):
        reader, writer = await dialled(server)
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        await application.under_way.wait()
        await until(lambda: not server.connections)
        writer.close()
        del reader


async def test_a_refused_body_is_read_away_so_that_the_answer_is_not_lost() -> None:
    async with serving() as (_, server):
        line = await dialled(server)
        size = 3_000_000
        head = f"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode()
        line[1].write(head + bytes(size))
        async with asyncio.timeout(PATIENCE):
            assert (await line[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400")
            assert await line[0].readexactly(2) == b"no"
        # And the connection goes on
        assert (await answered(line)).startswith(b"HTTP/1.1 200")
        line[1].close()


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (ServerLimits(unwanted_bytes=100_000), 10_000_000),
        (ServerLimits(unwanted_time=SOON), 10),
    ],
    ids=["too much", "too long"],
)
async def test_a_refused_body_is_not_read_for_ever(limits: ServerLimits, size: int) -> None:
    async with serving(limits) as (_, server):
        head = b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
        await said(await dialled(server), head + bytes(size))


async def test_more_connections_than_there_may_be_are_turned_away() -> None:
    async with serving(ServerLimits(connections=2)) as (_, server):
        lines = [await dialled(server) for _ in range(2)]
        for line in lines:
            assert (await answered(line)).startswith(b"HTTP/1.1 200")
        assert problem_in(await said(await dialled(server))) == (503, "CONNECTIONS_EXHAUSTED")
        lines[0][1].close()
        await until(lambda: server.connections < 2)
        third = await dialled(server)
        assert (await answered(third)).startswith(b"HTTP/1.1 200")
        for line in (lines[1], third):
            line[1].close()


async def test_an_answer_in_pieces_is_not_held_back() -> None:
    """Its second piece does not wait until the peer has acknowledged the first."""
    async with serving() as (_, server):
        line = await dialled(server)
        assert (await answered(line)).startswith(b"HTTP/1.1 200")
        (connection,) = server._uvicorn.server_state.connections  # pyright: ignore[reportPrivateUsage]  # nobody else has its socket
        own = connection.transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        line[1].close()


async def test_a_trailer_is_no_header() -> None:
    async with serving() as (application, server):
        request = (
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nx-api-key: stolen\r\n\r\n"
        )
        line = await dialled(server)
        assert (await answered(line, request)).startswith(b"HTTP/1.1 200")
        assert "x-api-key" not in application.seen[0].headers
        assert all(name != b"x-api-key" for name, _ in application.seen[0].scope["headers"])
        line[1].close()


async def test_a_defect_is_told_by_its_reference_alone() -> None:
    request = b"GET /fail HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with serving() as (_, server):
        with capture_logs() as logs:
            answer = await said(await dialled(server), request)
        assert problem_in(answer) == (500, "INTERNAL")
        assert b"secret" not in answer
        (failed,) = [each for each in logs if each["event"] == "request_failed"]
        assert failed["reference"].encode() in answer


async def test_an_answer_that_breaks_does_not_look_whole() -> None:
    request = b"GET /fail-late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with serving() as (_, server):
        with capture_logs() as logs:
            answer = await said(await dialled(server), request)
        assert [each["event"] for each in logs if each["log_level"] == "error"] == [
            "request_failed"
        ]
        assert not answer.endswith(b"0\r\n\r\n")


async def test_a_stopping_server_lets_requests_end_and_takes_no_more() -> None:
    async with serving() as (application, server):
        port = server.port
        line, idle = await dialled(server), await dialled(server)
        line[1].write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await application.under_way.wait()
        stopping = asyncio.ensure_future(server.stop(grace=timedelta(seconds=PATIENCE)))
        assert await said(idle) == b""
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        application.go_on.set()
        assert (await said(line)).endswith(b"done")
        await stopping


async def test_a_stopping_server_waits_no_longer_than_it_may() -> None:
    async with serving() as (application, server):
        line = await dialled(server)
        line[1].write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await application.under_way.wait()
        await server.stop(grace=SOON)
        assert application.cancelled
        assert await said(line) == b""


async def test_a_taken_address_is_refused() -> None:
    async with serving() as (application, server):
        second = Server(application.app, f"127.0.0.1:{server.port}")
        with pytest.raises(AddressTaken):
            await second.start()
        with pytest.raises(AddressTaken):
            await Server(application.app, "nowhere.invalid:1").start()
