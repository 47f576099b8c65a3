"""`/ws`: lets in who has a key, reads what they say, and sends them what they are told."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, cast

import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from callsheet.client.access import role_word
from callsheet.client.errors import CallError, Unauthenticated
from callsheet.gateway.bodies import invalid, read_body, require_media_type
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.edge import address_of
from callsheet.gateway.limits import RateLimit, too_many_requests
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused, problem_response, refused_of
from callsheet.gateway.rooms.dialogue import Dialogue
from callsheet.gateway.rooms.envelope import (
    Authenticate,
    EnvelopeInvalid,
    decode,
    decode_publication,
    encode,
    error_envelope,
)
from callsheet.gateway.rooms.limits import MESSAGE_BYTES, CloseCode, RoomLimits
from callsheet.gateway.rooms.outbox import Closed, Outbox
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.peers import Peers
from callsheet.gateway.rooms.publishing import Publishing, Sender
from callsheet.gateway.rooms.rate import Bucket
from callsheet.gateway.rooms.rooms import Rooms
from callsheet.gateway.rooms.wire import abort
from callsheet.v1.access_service_pb2 import Principal, Role

#: Failed keys of one address: so many at once, and one a second after that.
_FAILURES_AT_ONCE: Final = 30
#: Refusals after which the client may say who it is in its first message.
_NOT_SAID: Final = frozenset({"KEY_MISSING", "CROSS_ORIGIN"})

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Door:
    """The routes of the rooms."""

    def __init__(
        self,
        plane: Plane,
        peers: Peers,
        rooms: Rooms,
        publishing: Publishing,
        limits: RoomLimits,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._plane = plane
        self._peers = peers
        self._rooms = rooms
        self._publishing = publishing
        self._limits = limits
        self._clock = clock
        self._dialogue = Dialogue(rooms, publishing, limits, clock=clock)
        self._failures = RateLimit(per_second=1, burst=_FAILURES_AT_ONCE)

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            WebSocketRoute("/ws", self.enter),
            Route("/api/v1/rooms/messages", self.publish, methods=["POST"]),
        ]

    async def publish(self, request: Request) -> Response:
        """Tell a room, or one connection, what the body says: 202 with the place it was given."""
        credential = credential_of(request)
        require_media_type(request, "application/json")
        content = await read_body(request, limit=MESSAGE_BYTES)
        principal = await self._plane.principal(credential)
        try:
            publication = decode_publication(content)
            told = await self._publishing.publish(_sender(principal), publication)
        except EnvelopeInvalid as error:
            raise _bad_request(error) from error
        place = {"project": told.project, "epoch": told.epoch, "sequence": told.sequence}
        return JSONResponse(place, HTTPStatus.ACCEPTED)

    async def enter(self, socket: WebSocket) -> None:
        """Serve one connection for as long as it lasts."""
        try:
            with self._peers.connected():
                await self._enter(socket)
        except Refused as refused:
            await self._turn_away(socket, refused)
        except CallError as error:
            await self._turn_away(socket, refused_of(error))
        except WebSocketDisconnect:
            pass  # it left before it was in

    async def _enter(self, socket: WebSocket) -> None:
        address = address_of(socket)
        credential = _credential(socket)
        if not credential:
            with self._peers.introducing(address):
                await socket.accept()
                credential = await self._introduced(socket)
        peer = await self._recognised(credential, address)
        with self._peers.present(peer):
            if socket.application_state is WebSocketState.CONNECTING:
                await socket.accept()
            await self._talk(socket, peer)

    async def _introduced(self, socket: WebSocket) -> str:
        """Return the key that the first message says. Raises Refused when it does not in time."""
        try:
            async with asyncio.timeout(self._limits.sign_in.total_seconds()):
                said = decode(await socket.receive_text())
        except TimeoutError:
            raise _not_introduced("nothing was said in time") from None
        except KeyError:  # what Starlette makes of a binary message
            raise _not_introduced("envelopes are text") from None
        except EnvelopeInvalid as error:
            raise _not_introduced(str(error)) from error
        if not isinstance(said, Authenticate):
            raise _not_introduced("the first message must be AUTHENTICATE")
        return said.key

    async def _recognised(self, credential: str, address: str) -> Peer:
        if not self._plane.is_recognised(credential):  # what others guess there is not its fault
            wait = self._failures.wait(address)
            if wait is not None:
                raise too_many_requests(wait)
        try:
            principal = await self._plane.principal(credential)
        except (Unauthenticated, Refused):
            self._failures.count(address)
            raise
        now = self._clock()
        limits = self._limits
        rate = limits.messages_per_second
        return Peer(
            id=secrets.token_urlsafe(12),
            credential=credential,
            key_id=principal.key_id,
            projects=frozenset(principal.projects),
            roles=frozenset(principal.roles),
            outbox=Outbox(envelopes=limits.waiting, characters=limits.waiting_characters),
            bucket=Bucket(per_second=rate, burst=4 * rate, now=now),
            heard=now,
            pinged=now,
        )

    async def _talk(self, socket: WebSocket, peer: Peer) -> None:
        peer.outbox.put(self._welcome(peer))
        sending = asyncio.create_task(self._send(socket, peer.outbox))
        try:
            await self._listen(socket, peer)
        finally:
            self._rooms.leave_all(peer)
            sending.cancel()
            await asyncio.wait({sending})

    async def _listen(self, socket: WebSocket, peer: Peer) -> None:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if peer.outbox.end is not None:
                continue  # it was told to go, and has not heard it yet
            text = message.get("text")
            if text is None:
                peer.outbox.close(CloseCode.NOT_TEXT, "envelopes are text")
                continue
            try:
                await self._dialogue.answer(peer, text)
            except Exception:  # noqa: BLE001  # a defect ends this connection alone, and is logged
                _log.exception("peer_failed", key_id=peer.key_id)
                peer.outbox.close(CloseCode.INTERNAL, "the server failed")

    async def _send(self, socket: WebSocket, outbox: Outbox) -> None:
        """Send what comes into the outbox, until it is closed or the client is gone or stuck."""
        patience = self._limits.send.total_seconds()
        try:
            while True:
                for text in await outbox.taken():
                    async with asyncio.timeout(patience):
                        await socket.send_text(text)
        except WebSocketDisconnect:
            return
        except Closed as closed:
            await self._say_goodbye(socket, closed.code, closed.reason)
        except TimeoutError:
            _log.info("peer_stuck")
            outbox.close(CloseCode.SLOW_READER, "nothing was taken for too long")
            abort(socket)

    async def _turn_away(self, socket: WebSocket, refused: Refused) -> None:
        if socket.application_state is WebSocketState.CONNECTING:
            with suppress(WebSocketDisconnect, OSError):
                await socket.send_denial_response(problem_response(refused))
            return
        told = error_envelope(
            refused.reason,
            refused.detail,
            violations=refused.violations,
            retry_after=refused.retry_after,
        )
        unknown = refused.status is HTTPStatus.UNAUTHORIZED
        code = CloseCode.UNAUTHENTICATED if unknown else CloseCode.TOO_MANY_CONNECTIONS
        try:
            async with asyncio.timeout(self._limits.send.total_seconds()):
                await socket.send_text(told)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            abort(socket)
            return
        await self._say_goodbye(socket, code, refused.reason)

    async def _say_goodbye(self, socket: WebSocket, code: CloseCode, reason: str) -> None:
        try:
            async with asyncio.timeout(self._limits.send.total_seconds()):
                await socket.close(code, reason)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            abort(socket)

    def _welcome(self, peer: Peer) -> str:
        limits = self._limits
        return encode(
            "WELCOME",
            data={
                "connection_id": peer.id,
                "projects": sorted(peer.projects),
                "roles": sorted(role_word(role) for role in peer.roles),
                "limits": {
                    "message_bytes": MESSAGE_BYTES,
                    "messages_per_second": limits.messages_per_second,
                    "rooms": limits.rooms_per_connection,
                    "heartbeat_seconds": limits.heartbeat.total_seconds(),
                    "silence_seconds": limits.silence.total_seconds(),
                },
            },
        )


def _credential(connection: HTTPConnection) -> str:
    """Return the key or ticket that came with the connection; '': none, or from another's page.

    Raises Refused for what cannot be one.
    """
    try:
        return credential_of(connection)
    except Refused as refused:
        if refused.reason in _NOT_SAID:
            return ""
        raise


def _sender(principal: Principal) -> Sender:
    return Sender(
        principal.key_id, frozenset(principal.projects), Role.ROLE_SUBMIT in principal.roles
    )


def _not_introduced(detail: str) -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, "KEY_MISSING", detail)


def _bad_request(error: EnvelopeInvalid) -> Refused:
    if error.violations:
        return invalid(error.violations)
    return Refused(HTTPStatus.BAD_REQUEST, "JSON_MALFORMED", str(error))
