"""The brain's door: MCP over WebSocket, and beside it health and knowledge over plain HTTP.

| `GET /mcp`                      | a WebSocket of the subprotocol `mcp`                        |
| `GET /health`                   | that it is there; needs no token                            |
| `POST /api/v1/knowledge/query`  | `{project_id, query, context_type?, limit?}` → `{items}`    |
"""

import hmac
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlsplit

from mcp.server import Server
from pydantic import Field, ValidationError
from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from callsheet.brain.streams import MESSAGE_BYTES, SUBPROTOCOL
from callsheet.embedded.brain.brain import BRAIN_VERSION
from callsheet.embedded.brain.connection import LARGEST_BODY_BYTES, BrainConnection
from callsheet.embedded.brain.errors import BrainRefused, Reason
from callsheet.embedded.brain.fields import Limit, Name, Project, SomeText
from callsheet.embedded.brain.messages import Closed
from callsheet.embedded.brain.streams import mcp_streams
from callsheet.embedded.brain.tools import Toolbox

MCP_PATH: Final = "/mcp"
HEALTH_PATH: Final = "/health"
KNOWLEDGE_PATH: Final = "/api/v1/knowledge/query"


_SUBPROTOCOL: Final = Subprotocol(SUBPROTOCOL)

_STATUS: Final[Mapping[Reason, HTTPStatus]] = MappingProxyType(
    {
        Reason.INVALID_INPUT: HTTPStatus.BAD_REQUEST,
        Reason.UNKNOWN_TOOL: HTTPStatus.NOT_FOUND,
        Reason.LIMIT_REACHED: HTTPStatus.INSUFFICIENT_STORAGE,
        Reason.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
        Reason.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a client may take, and how many there may be.

    A request must be there within *open*; a client is asked whether it lives after *ping* of
    silence, and has as long to say so; a goodbye takes *close*.
    """

    open: timedelta = timedelta(seconds=10)
    ping: timedelta = timedelta(seconds=20)
    close: timedelta = timedelta(seconds=5)
    clients: int = 64


class KnowledgeAsked(Closed):
    """The body of a knowledge query, as the platform writes it."""

    project_id: Project
    query: SomeText
    context_type: Name = ""
    limit: Annotated[Limit, Field(strict=False)] = 10


class Front:
    """Lets in who has the token, and answers each by its path."""

    def __init__(
        self,
        server: "Server[Any]",
        toolbox: Toolbox,
        *,
        token: str,
        patience: Patience | None = None,
    ) -> None:
        self._server = server
        self._toolbox = toolbox
        self._authorization = f"Bearer {token}".encode()
        self._patience = patience or Patience()
        self._clients = 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[Listener]:
        """Listen for as long as the block runs; clients are told goodbye at its end."""
        async with serve(
            self._converse,
            host,
            port,
            subprotocols=[_SUBPROTOCOL],
            select_subprotocol=_select_subprotocol,
            compression=None,  # its clients are near, and its cost is processor time
            process_request=self._admit,
            open_timeout=self._patience.open.total_seconds(),
            ping_interval=self._patience.ping.total_seconds(),
            ping_timeout=self._patience.ping.total_seconds(),
            close_timeout=self._patience.close.total_seconds(),
            max_size=MESSAGE_BYTES,
            create_connection=BrainConnection,
        ) as listener:
            yield listener

    async def _converse(self, socket: ServerConnection) -> None:
        self._clients += 1
        try:
            reading, writing = mcp_streams(socket)
            options = self._server.create_initialization_options()
            await self._server.run(reading, writing, options)
        finally:
            self._clients -= 1

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a plain request or a refusal; None lets a WebSocket open."""
        try:
            url = urlsplit(request.path)
        except ValueError:  # an absolute target whose host is none
            return _refused(HTTPStatus.BAD_REQUEST, "PATH", "the request's target is no URL")
        if "Origin" in request.headers:
            # Only browsers send it, and no page has any business here.
            return _refused(HTTPStatus.FORBIDDEN, "ORIGIN", "requests of web pages are refused")
        if url.path == HEALTH_PATH:
            return _answered(HTTPStatus.OK, {"status": "ok", "version": BRAIN_VERSION})
        if url.path not in {MCP_PATH, KNOWLEDGE_PATH}:
            return _refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "there is nothing at this path")
        if not self._is_authorized(request):
            return _refused(HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED", "a bearer token is needed")
        body = connection.body if isinstance(connection, BrainConnection) else b""
        if url.path == KNOWLEDGE_PATH:
            return await self._knowledge(request, url.query, body)
        if body != b"":
            return _refused(HTTPStatus.BAD_REQUEST, "BODY", "a WebSocket begins without a body")
        if self._clients >= self._patience.clients:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "BUSY", "too many clients are there")
        return None

    def _is_authorized(self, request: Request) -> bool:
        given = request.headers.get_all("Authorization")
        return len(given) == 1 and hmac.compare_digest(
            given[0].encode("utf-8", "surrogateescape"), self._authorization
        )

    async def _knowledge(self, request: Request, query: str, body: bytes | None) -> Response:
        if request.method not in {"GET", "POST"}:
            return _refused(
                HTTPStatus.METHOD_NOT_ALLOWED, "METHOD", "only GET and POST are answered"
            )
        if body is None:
            return _refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "TOO_LARGE",
                f"a body has at most {LARGEST_BODY_BYTES} bytes",
            )
        try:
            asked = _knowledge_asked(query, body)
            # The kind of context is a hint of what is meant, and so part of the text.
            hint = asked.context_type.replace("_", " ").strip()
            text = f"{hint}: {asked.query}" if hint else asked.query
            found = await self._toolbox.call(
                "query_knowledge",
                {"project": asked.project_id, "text": text, "limit": asked.limit},
            )
        except BrainRefused as refused:
            return _refused(_STATUS[refused.reason], refused.reason.value, refused.message)
        answer = {"project_id": asked.project_id, "context_type": asked.context_type}
        return _answered(HTTPStatus.OK, {**answer, **found.model_dump(mode="json")})


def _knowledge_asked(query: str, body: bytes) -> KnowledgeAsked:
    try:
        fields: Any = json.loads(body) if body else dict(parse_qsl(query))
        return KnowledgeAsked.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BrainRefused(Reason.INVALID_INPUT, f"{place}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise BrainRefused(Reason.INVALID_INPUT, "the body is no JSON object") from None


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    # Some clients of the protocol name none, and mean this one.
    return _SUBPROTOCOL if _SUBPROTOCOL in offered else None


def _answered(status: HTTPStatus, answer: Mapping[str, object]) -> Response:
    body = json.dumps(answer, ensure_ascii=False).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        }
    )
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(status.value, status.phrase, headers, body)


def _refused(status: HTTPStatus, reason: str, message: str) -> Response:
    return _answered(status, {"error": {"reason": reason, "message": message}})
