"""The connection to a brain: one task owns it, makes it anew whenever it ends, and shares it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

import structlog
from mcp.client.client import Client
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolResult,
    Implementation,
    PaginatedRequestParams,
    TextContent,
)
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus

from callsheet.brain.breaker import CircuitBreaker
from callsheet.brain.errors import (
    AnswerMalformed,
    BrainError,
    BrainRefused,
    BrainUnavailable,
    ToolNotOffered,
)
from callsheet.brain.tools import Tool
from callsheet.brain.transport import Dialling, WebSocketTransport, trust

#: What the SDK says of us when it introduces itself.
_US: Final = Implementation(name="callsheet", version="1")

#: Waits between connections are drawn from 0 to this, doubled each time.
_FIRST_WAIT: Final = timedelta(milliseconds=100)
_LONGEST_WAIT: Final = timedelta(seconds=10)
#: A connection that lived this long was a good one: the waits begin anew.
_STEADY: Final = timedelta(seconds=5)
#: Pages of a list of tools that are read; what comes later is passed over.
_PAGES: Final = 20
#: Calls in a row without an answer after which the brain is left alone, and for how long.
_FAILURES: Final = 5
_REST: Final = timedelta(seconds=5)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class _Session(NamedTuple):
    session: ClientSession
    transport: WebSocketTransport
    offered: frozenset[str]
    server: str


class BrainConnection:
    """Calls tools; entered, it is kept alive until it is left. Used from one event loop.

    *names* are the brain's names of the tools it may be asked for, *time_limit* what a call may
    take, *in_flight* how many calls are on their way at a time (others wait within their limit),
    *jitter* a chance between 0 and 1.

    Raises:
        OSError: the CA file cannot be read, or is none.
    """

    def __init__(
        self,
        dialling: Dialling,
        *,
        names: Mapping[Tool, str],
        time_limit: timedelta,
        in_flight: int,
        jitter: Callable[[], float],
    ) -> None:
        self._dialling = dialling
        self._tls = trust(dialling)
        self._names = names
        self._time_limit = time_limit
        self._jitter = jitter
        self._room = asyncio.Semaphore(in_flight)
        self._clock = asyncio.get_running_loop().time
        self._breaker = CircuitBreaker(self._clock, failures=_FAILURES, rest=_REST)
        self._session: _Session | None = None
        self._count = 0
        self._reason = "it has not been reached yet"
        self._connected = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._owner = asyncio.create_task(self._own(), name="brain-connection")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait({self._owner})

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection; it may be lost before a call notices."""
        return self._session is not None

    @property
    def count(self) -> int:
        """How many connections there were; with another number, the brain may be another one."""
        return self._count

    @property
    def is_resting(self) -> bool:
        """Whether calls are refused, because the last ones were not answered in time."""
        return self._breaker.is_open

    @property
    def reason(self) -> str:
        """Why there is no connection, for people. Empty: there is one."""
        return "" if self._session is not None else self._reason

    async def until_connected(self, *, timeout: timedelta) -> bool:
        """Wait for a connection; False: there is none in time."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    def offers(self, tool: Tool) -> bool:
        """Whether the brain that is connected now, or was last, has the tool."""
        return self._session is not None and self._names.get(tool) in self._session.offered

    async def call(
        self, tool: Tool, arguments: Mapping[str, object], *, time_limit: timedelta | None = None
    ) -> object:
        """Return the structured content of the tool's answer.

        Raises:
            BrainUnavailable: there is no connection, it was lost, the answer did not come in time,
                or the circuit is open.
            ToolNotOffered, BrainRefused, AnswerMalformed, MessageTooLarge: as they say.
        """
        limit = self._time_limit if time_limit is None else time_limit
        session: _Session | None = None
        try:
            async with asyncio.timeout(limit.total_seconds()), self._room:
                session, name = self._asked(tool)
                answer = _content(name, await _call(session, name, arguments, limit=limit))
        except TimeoutError:
            was_sent = session is not None
            if was_sent:
                self._breaker.failed()
            reason = f"the brain did not answer {tool.value} within {limit.total_seconds():g} s"
            raise BrainUnavailable(reason, was_sent=was_sent) from None
        except BrainUnavailable:
            if session is not None:
                self._breaker.failed()
                self._lose(session)
            # Who tries again at once must not keep the owner from running.
            await asyncio.sleep(0)
            raise
        except asyncio.CancelledError:
            if session is not None:
                self._breaker.abandoned()
            raise
        except BrainError:
            if session is not None:
                self._breaker.close()  # it is there, whatever it said
            raise
        self._breaker.close()
        return answer

    async def ping(self, *, time_limit: timedelta | None = None) -> str:
        """Ask for a sign of life, the list of tools; return what the brain calls itself.

        Raises:
            BrainUnavailable: there is none.
        """
        session = self._there()
        limit = self._time_limit if time_limit is None else time_limit
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await session.session.list_tools()
        except (TimeoutError, MCPError, ValidationError) as error:
            raise BrainUnavailable(f"the brain gives no sign of life: {error}") from error
        return session.server

    def _there(self) -> _Session:
        if self._session is None:
            raise BrainUnavailable(f"the brain is away: {self._reason}")
        return self._session

    def _asked(self, tool: Tool) -> tuple[_Session, str]:
        session = self._there()
        name = self._names.get(tool)
        if name is None or name not in session.offered:
            raise ToolNotOffered(tool.value)
        if not self._breaker.admits():
            raise BrainUnavailable("the brain is left alone for a while: it did not answer")
        return session, name

    def _lose(self, session: _Session) -> None:
        """Note that a connection has ended, before its owner does, and see that its owner does."""
        session.transport.abort()
        if self._session is session:
            self._session = None
            self._connected.clear()

    async def _own(self) -> None:
        tries = 0
        while True:
            began = self._clock()
            try:
                await self._be_connected()
            except Exception as error:  # noqa: BLE001  # whatever the brain does, we come back
                self._away(_told(error))
            steady = self._clock() - began >= _STEADY.total_seconds()
            tries = 0 if steady else tries + 1
            most = min(_FIRST_WAIT * 2 ** min(tries, 16), _LONGEST_WAIT)
            await asyncio.sleep(self._jitter() * most.total_seconds())

    async def _be_connected(self) -> None:
        transport = WebSocketTransport(self._dialling, tls=self._tls)
        limit = self._dialling.open_limit.total_seconds()
        client = Client(
            transport, mode="legacy", read_timeout_seconds=limit, client_info=_US, cache=None
        )
        try:
            async with client:
                offered = frozenset([name async for name in _tools(client.session)])
                self._arrive(client, transport, offered)
                reason = await transport.lost()
        finally:
            self._session = None
            self._connected.clear()
        self._away(reason)

    def _arrive(
        self, client: Client, transport: WebSocketTransport, offered: frozenset[str]
    ) -> None:
        named = client.server_info
        server = f"{named.name} {named.version}" if named is not None else "a brain without a name"
        self._session = _Session(client.session, transport, offered, server)
        self._count += 1
        self._breaker.close()
        self._connected.set()
        self._reason = ""
        missing = sorted(tool.value for tool in Tool if self._names.get(tool) not in offered)
        _log.info("brain_connected", brain=server, tools_missing=missing)

    def _away(self, reason: str) -> None:
        # Said once, however many tries follow.
        if reason != self._reason:
            _log.warning("brain_away", reason=reason)
        self._reason = reason


async def _call(
    session: _Session, name: str, arguments: Mapping[str, object], *, limit: timedelta
) -> CallToolResult:
    try:
        # Said for each call: otherwise what opening a connection may take bounds it too. Longer
        # than our own limit, so that who says it took too long is never the SDK.
        return await session.session.call_tool(
            name, dict(arguments), read_timeout_seconds=2 * limit.total_seconds()
        )
    except MCPError as error:
        # The SDK says these of a lost connection; on one that stands, the brain itself does.
        if error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT) and session.transport.is_over:
            raise BrainUnavailable(f"lost in mid-call: {error}", was_sent=True) from error
        raise BrainRefused(name, str(error)) from error
    except (ValidationError, RuntimeError) as error:
        # RuntimeError is the SDK's word for an answer that is not of the schema the tool announced.
        raise AnswerMalformed(name, str(error)) from error


async def _tools(session: ClientSession) -> AsyncGenerator[str]:
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        for tool in page.tools:
            yield tool.name
        cursor = page.next_cursor
        if cursor is None:
            return


def _content(name: str, result: CallToolResult) -> object:
    if result.is_error:
        told = cast("object", result.structured_content)
        reason = cast("dict[str, object]", told).get("reason") if isinstance(told, dict) else None
        raise BrainRefused(
            name,
            " ".join(_texts(result)) or "no reason was given",
            reason=reason if isinstance(reason, str) else "",
        )
    if result.structured_content is not None:
        return result.structured_content
    # Servers that give no structure give the same as text.
    try:
        return cast("object", json.loads(next(_texts(result), "")))
    except (ValueError, RecursionError):  # no JSON, too deep, or a number of too many digits
        raise AnswerMalformed(name, "neither structured content nor JSON text") from None


def _texts(result: CallToolResult) -> Iterator[str]:
    return (part.text for part in result.content if isinstance(part, TextContent))


def _told(error: BaseException) -> str:
    """Return why connecting failed, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, InvalidStatus):
        return f"it answered {error.response.status_code} to the WebSocket's handshake"
    return f"{type(error).__name__}: {error}"[:500]
