"""What surrounds every request: rate and size limits, time limits, and the last word on defects."""

import asyncio
import secrets
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final, Protocol, cast

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callsheet.gateway.credentials import COOKIE, could_be_one, fingerprint, presented
from callsheet.gateway.limits import RateLimit, too_many_requests
from callsheet.gateway.problems import Refused, problem_response
from callsheet.gateway.server import ABORT, Abort

#: How long a peer may send nothing of a body it announced, or read nothing of an answer.
SILENCE: Final = timedelta(seconds=30)
#: Bytes a second that a body has to come with in the long run: who sends one a minute holds a place
#: as well as who sends none.
SLOWEST: Final = 1024
#: Failed credentials of one address: so many at once, and one a second after that.
_FAILURES_AT_ONCE: Final = 30

#: What whoever asks whether we live is never refused for; with a key, the first asks control too.
_HEALTH: Final = "/health"
_READY: Final = "/ready"
#: Set in scope["state"] where control refused the key and the answer's status does not say so.
KEY_REFUSED: Final = "key_refused"

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class ClientStalled(Exception):
    """The client reads nothing of its answer."""


class Keys(Protocol):
    """What is known of keys and tickets without asking control."""

    def is_recognised(self, credential: str) -> bool:
        """Whether control knew it when it was last asked."""
        ...

    def forget(self, credential: str) -> None:
        """Recognise it no more."""
        ...


class Edge:
    """The outermost layer of the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None = None,
        requests: RateLimit,
        largest_body: int,
        silence: timedelta = SILENCE,
    ) -> None:
        self._app = app
        self._keys = keys
        self._requests = requests
        self._failures = RateLimit(per_second=1, burst=_FAILURES_AT_ONCE)
        self._largest_body = largest_body
        self._silence = silence.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = monotonic()
        connection = HTTPConnection(scope)
        credential, address = _callers(connection)
        exchange = _Exchange(scope, receive, send, self._largest_body, self._silence)
        try:
            self._admit(scope["path"], credential, address)
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            _log.debug("client_left", path=scope["path"])
        except ClientStalled:
            _log.info("client_stalled", path=scope["path"])
            exchange.abort()
        except Refused as refused:
            await exchange.answer(refused)
        except asyncio.CancelledError:
            # Only a server that ends does so; there is nobody above to be told.
            exchange.abort()
        except Exception as error:  # noqa: BLE001  # whatever it is, the client is told and it is logged
            await exchange.answer(_defect(scope, error))
        if credential and (exchange.status == HTTPStatus.UNAUTHORIZED or _key_refused(scope)):
            self._failures.count(address)
            if self._keys is not None:
                self._keys.forget(credential)
        _log.debug(
            "request_answered",
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            seconds=round(monotonic() - started, 6),
        )

    def _admit(self, path: str, credential: str, address: str) -> None:
        """Count the request: to its key, where control knows it, or else to the address.

        Raises Refused, 429, when it is one too many.
        """
        is_known = self._keys is not None and self._keys.is_recognised(credential)
        is_guess = credential != "" and not is_known
        if path == _READY or (path == _HEALTH and not is_guess):
            return
        if is_guess:
            wait = self._failures.wait(address)
            if wait is not None:
                raise too_many_requests(wait)
        self._requests.take(fingerprint(credential) if is_known else address)


class _Exchange:
    """One request and its answer, with a limit on how long the peer may be silent."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, largest_body: int, silence: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._largest = largest_body
        self._silence = silence
        self._taken = 0
        #: Seconds for which the peer was waited for.
        self._waited = 0.0
        self._whole = False
        #: The status of the answer; zero before there is one.
        self.status = 0

    async def receive(self) -> Message:
        """Return what comes of the body. Raises Refused: 413 for too much of it, 408 for none."""
        if self._whole:
            return await self._receive()
        began = monotonic()
        earned = self._silence + self._taken / SLOWEST - self._waited
        try:
            async with asyncio.timeout(max(0.0, min(self._silence, earned))):
                message = await self._receive()
        except TimeoutError:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                "BODY_TOO_SLOW",
                f"nothing of the body came for {self._silence:g} seconds, or less than {SLOWEST} "
                "bytes a second",
                headers={"connection": "close"},
            ) from None
        self._waited += monotonic() - began
        self._taken += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._taken > self._largest:
            raise too_large(self._largest)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer. Raises ClientStalled when nobody reads it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.setdefault("x-content-type-options", "nosniff")
            headers.setdefault("referrer-policy", "no-referrer")
            if not self._whole and "expect" in Headers(scope=self._scope):
                # The body was not asked for, and may come or not: nobody can tell what follows.
                headers["connection"] = "close"
        try:
            async with asyncio.timeout(self._silence):
                await self._send(message)
        except TimeoutError:
            raise ClientStalled from None

    async def answer(self, refused: Refused) -> None:
        """Answer with a problem; when an answer is under way, break it off instead."""
        if self.status:
            self.abort()
            return
        try:
            await problem_response(refused)(self._scope, self.receive, self.send)
        except ClientStalled:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        cast("Abort", self._scope["state"][ABORT])()


def too_large(limit: int) -> Refused:
    """Return the refusal of a body of more than so many bytes."""
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "BODY_TOO_LARGE",
        f"the body may have at most {limit} bytes",
    )


def address_of(connection: HTTPConnection) -> str:
    """Return the address of the peer, or of the client that a trusted proxy names."""
    return connection.client.host if connection.client is not None else ""


def _callers(connection: HTTPConnection) -> tuple[str, str]:
    """Return the credential of a request, or '' for what cannot be one, and the address."""
    credential = presented(connection.headers)
    if credential is None:
        credential = connection.cookies.get(COOKIE, "") if "cookie" in connection.headers else ""
    return credential if could_be_one(credential) else "", address_of(connection)


def _key_refused(scope: Scope) -> bool:
    return KEY_REFUSED in scope["state"]


def _defect(scope: Scope, error: Exception) -> Refused:
    reference = secrets.token_hex(8)
    _log.error("request_failed", path=scope["path"], reference=reference, exc_info=error)
    return Refused(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "INTERNAL",
        f"an internal error occurred; its reference is {reference}",
    )
