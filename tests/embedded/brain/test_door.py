"""The brain's door: who is let in, what is answered there, and whom it does not wait for."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from callsheet.brain import streams
from callsheet.brain.streams import MESSAGE_BYTES
from callsheet.embedded.brain.brain import Brain
from callsheet.embedded.brain.connection import LARGEST_BODY_BYTES, BrainConnection
from callsheet.embedded.brain.embedder import Embedder
from callsheet.embedded.brain.filling import VectorFiller
from callsheet.embedded.brain.front import Front, Patience
from callsheet.embedded.brain.graph import Graph
from callsheet.embedded.brain.mcp_server import mcp_server
from callsheet.embedded.brain.tools import Toolbox
from tests.support.embedded_brains import TOKEN, EmbeddedBrain

BEARER = {"Authorization": f"Bearer {TOKEN}"}
KNOWLEDGE = "/api/v1/knowledge/query"
PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HASTE = Patience(
    open=timedelta(milliseconds=300),
    ping=timedelta(milliseconds=200),
    close=timedelta(milliseconds=200),
    clients=2,
)


def opened(url: str, **more: Any) -> connect:  # noqa: ANN401  # what connect takes
    wanted: dict[str, Any] = {"additional_headers": BEARER, "subprotocols": [Subprotocol("mcp")]}
    return connect(url, proxy=None, compression=None, close_timeout=0.2, **{**wanted, **more})


@asynccontextmanager
async def hasty_brain(graph: Graph) -> AsyncGenerator[int]:
    """A brain in this process that waits for nobody; yields its port."""
    embedder = Embedder()
    toolbox = Toolbox(Brain(graph, embedder, VectorFiller(graph, embedder), now=lambda: NOON))
    front = Front(mcp_server(toolbox), toolbox, token=TOKEN, patience=HASTE)
    async with front.listening("127.0.0.1", 0) as listener:
        yield cast("int", listener.sockets[0].getsockname()[1])
    await embedder.close()


@pytest.fixture
async def http(server: EmbeddedBrain) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http_url, headers=BEARER) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"bearer {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \u00e9"},
    ],
)
async def test_without_the_token_nobody_is_let_in(
    server: EmbeddedBrain, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await opened(server.url, additional_headers=headers)
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_web_page_is_not_let_in_even_with_the_token(server: EmbeddedBrain) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await opened(server.url, origin=Origin(server.http_url))
    assert refused.value.response.status_code == 403


async def test_at_another_path_there_is_nothing(server: EmbeddedBrain) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await opened(server.url + "/more")
    assert refused.value.response.status_code == 404


async def test_a_client_that_names_no_subprotocol_is_understood(server: EmbeddedBrain) -> None:
    async with opened(server.url, subprotocols=None) as socket:
        await socket.send(PING)
        assert json.loads(await socket.recv()) == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_a_frame_that_is_no_message_does_not_end_the_connection(
    server: EmbeddedBrain,
) -> None:
    async with opened(server.url) as socket:
        await socket.send("not JSON")
        await socket.send('{"jsonrpc": "2.0"}')
        await socket.send(PING)
        assert json.loads(await socket.recv())["result"] == {}


async def test_a_message_that_is_too_large_ends_the_connection_and_no_other(
    server: EmbeddedBrain,
) -> None:
    async with opened(server.url) as other:
        socket = await opened(server.url)
        with suppress(ConnectionClosed):
            await socket.send("x" * (MESSAGE_BYTES + 1))
        await socket.wait_closed()
        assert socket.close_code == 1009
        await other.send(PING)
        assert json.loads(await other.recv())["result"] == {}


async def test_health_needs_no_token_and_tells_nothing_else(server: EmbeddedBrain) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{server.http_url}/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": "1.0"}


async def test_knowledge_is_asked_for_over_rest(
    server: EmbeddedBrain, http: httpx.AsyncClient
) -> None:
    """As the platform's document writes it, and as HTTP would rather have it."""
    async with server.client() as client:
        assert await client.connection.until_connected(timeout=timedelta(seconds=30))
        await client.store_knowledge("series-1", source="mara", text="Mara is a stubborn detective")
        await client.store_knowledge("series-1", source="sea", text="The sea is cold")
    asked = {
        "project_id": "series-1",
        "context_type": "character_context",
        "query": "Detective protagonist personality traits",
    }
    posted = await http.post(KNOWLEDGE, json=asked)
    assert posted.status_code == 200
    answer = posted.json()
    assert (answer["project_id"], answer["context_type"]) == ("series-1", "character_context")
    assert [item["source"] for item in answer["items"]] == ["mara", "sea"]
    assert (await http.request("GET", KNOWLEDGE, json=asked)).json() == answer
    in_address = await http.get(KNOWLEDGE, params={**asked, "limit": "1"})
    assert in_address.json()["items"] == answer["items"][:1]
    elsewhere = await http.post(KNOWLEDGE, json={**asked, "project_id": "series-2"})
    assert elsewhere.json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        (b"", 400, "project_id: Field required"),
        (b"{", 400, "the body is no JSON object"),
        (b"[]", 400, ": Input should be a valid dictionary or instance of KnowledgeAsked"),
        (b"[" * 100_000, 400, "the body is no JSON object"),
        (b'{"project_id": "p", "query": ""}', 400, "query: String should have at least 1"),
        (b'{"project_id": "../p", "query": "x"}', 400, "project_id: String should match"),
        (b'{"project_id": "p", "query": "x", "x": 1}', 400, "x: Extra inputs"),
        (b" " * (LARGEST_BODY_BYTES + 1), 413, "a body has at most 262144 bytes"),
    ],
)
async def test_a_bad_question_is_refused_with_the_reason(
    http: httpx.AsyncClient, body: bytes, status: int, complaint: str
) -> None:
    answer = await http.post(KNOWLEDGE, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(complaint)


async def test_knowledge_needs_the_token(server: EmbeddedBrain) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{server.http_url}{KNOWLEDGE}", json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["reason"] == "UNAUTHENTICATED"


async def test_other_methods_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.delete(KNOWLEDGE)
    assert answer.status_code == 405


async def test_a_websocket_begins_without_a_body(http: httpx.AsyncClient) -> None:
    answer = await http.post("/mcp", content=b"x" * 100_000)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "BODY")


async def test_a_body_may_come_in_pieces(server: EmbeddedBrain) -> None:
    body = b'{"project_id": "p", "query": "x"}'
    head = (
        f"POST {KNOWLEDGE} HTTP/1.1\r\nHost: brain\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"CONTENT-length:   {len(body)}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for byte in head + body:
        writer.write(bytes([byte]))
        await writer.drain()
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


@pytest.mark.parametrize(
    "begun", [b"", b"GET /mcp HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_client_that_does_not_finish_its_request_is_let_go(
    graph: Graph, begun: bytes
) -> None:
    async with hasty_brain(graph) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        assert await _ended(reader)
        writer.close()


async def test_a_head_without_an_end_is_refused(graph: Graph) -> None:
    async with hasty_brain(graph) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /" + b"x" * 40_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 414")
        writer.close()


async def test_a_client_that_no_longer_answers_pings_is_let_go(graph: Graph) -> None:
    async with hasty_brain(graph) as port, opened(_url(port)) as socket:
        socket.transport.pause_reading()  # as a machine that has lost its network
        await _is_free_for(2, port)


async def test_a_client_that_reads_no_answers_is_let_go(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_WRITE_LIMIT", timedelta(milliseconds=200))
    async with hasty_brain(graph) as port, opened(_url(port), ping_interval=None) as socket:
        await socket.send(_call("initialize"))
        await socket.recv()
        socket.transport.pause_reading()
        with suppress(ConnectionClosed):
            for number in range(100_000):
                await socket.send(_call("tools/list", number=number))
        await _is_free_for(2, port)


async def test_no_more_clients_are_let_in_than_there_is_room_for(graph: Graph) -> None:
    async with hasty_brain(graph) as port:
        async with opened(_url(port)) as one, opened(_url(port)) as two:
            await _talks(one)
            await _talks(two)
            with pytest.raises(InvalidStatus) as refused:
                await opened(_url(port))
            assert refused.value.response.status_code == 503
        await _is_free_for(2, port)


async def test_connections_past_the_bound_are_cut_at_once(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BrainConnection, "most", 3)
    async with hasty_brain(graph) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert await _ended(pairs[3][0])
        for _, writer in pairs:
            writer.close()


def _url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/mcp"


def _call(method: str, *, number: int = 0) -> str:
    client = {"name": "test", "version": "1"}
    begun = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    params = begun if method == "initialize" else {}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


async def _talks(socket: ClientConnection) -> None:
    await socket.send(PING)
    await socket.recv()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def _is_free_for(clients: int, port: int) -> None:
    """Return when so many new clients are let in: the old ones are gone."""
    async with asyncio.timeout(30):
        sockets: list[ClientConnection] = []
        while len(sockets) < clients:
            try:
                sockets.append(await opened(_url(port)))
            except (InvalidStatus, OSError):
                await asyncio.sleep(0.02)
    for socket in sockets:
        await socket.close()
