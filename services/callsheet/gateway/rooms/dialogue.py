"""What a connection says, and what it is answered."""

from collections.abc import Callable
from datetime import timedelta
from typing import assert_never, cast

import structlog

from callsheet.client.errors import CallError
from callsheet.gateway.limits import too_many_requests
from callsheet.gateway.problems import Refused, refused_of
from callsheet.gateway.rooms.envelope import (
    Authenticate,
    CollaborationUpdate,
    EnvelopeInvalid,
    Join,
    Leave,
    NetworkUpdate,
    Notification,
    Ping,
    Pong,
    Publication,
    Received,
    WorkflowUpdate,
    decode,
    encode,
    error_envelope,
    id_of,
)
from callsheet.gateway.rooms.limits import CloseCode, RoomLimits
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.publishing import Publishing, Sender
from callsheet.gateway.rooms.rooms import Rooms

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Dialogue:
    """Answers connections; what one says is answered before its next word is read."""

    def __init__(
        self,
        rooms: Rooms,
        publishing: Publishing,
        limits: RoomLimits,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._rooms = rooms
        self._publishing = publishing
        self._limits = limits
        self._clock = clock

    async def answer(self, peer: Peer, text: str) -> None:
        """Do what the text asks for; a refusal is told to the peer."""
        peer.heard = self._clock()
        wait = peer.bucket.take(peer.heard)
        if wait is not None:
            self._hold(peer, text, wait)
            return
        peer.refused = 0
        try:
            said = decode(text)
        except EnvelopeInvalid as error:
            told = error_envelope(
                error.reason, str(error), id_=id_of(text), violations=error.violations
            )
            peer.outbox.put(told)
            return
        try:
            await self._do(peer, said)
        except EnvelopeInvalid as error:
            peer.outbox.put(error_envelope(error.reason, str(error), id_=said.id))
        except Refused as refused:
            peer.outbox.put(_refusal(refused, said))
        except CallError as error:
            peer.outbox.put(_refusal(refused_of(error), said))

    async def _do(self, peer: Peer, said: Received) -> None:
        match said:
            case Ping():
                peer.outbox.put(encode("PONG", id=said.id))
            case Pong():
                pass  # that something was heard is all it says
            case Join():
                await self._rooms.join(peer, said)
            case Leave():
                self._rooms.part(peer, said)
            case WorkflowUpdate() | NetworkUpdate() | CollaborationUpdate() | Notification():
                await self._publish(peer, said)
            case Authenticate():
                message = "this connection has said who it is"
                peer.outbox.put(error_envelope("ALREADY_AUTHENTICATED", message, id_=said.id))
            case _:
                assert_never(said)

    async def _publish(self, peer: Peer, said: Publication) -> None:
        sender = Sender(peer.key_id, peer.projects, peer.publishes, connection=peer.id)
        told = await self._publishing.publish(sender, said)
        if said.id:
            peer.outbox.put(
                encode(
                    "ACCEPTED",
                    id=said.id,
                    project=told.project,
                    room=said.room,
                    sequence=told.sequence or None,
                    epoch=told.epoch,
                )
            )

    def _hold(self, peer: Peer, text: str, wait: timedelta) -> None:
        peer.refused += 1
        if peer.refused >= self._limits.refusals:
            _log.warning("peer_rate_limited", key_id=peer.key_id)
            peer.outbox.close(CloseCode.RATE_LIMITED, "too many messages")
            return
        refused = too_many_requests(wait)
        peer.outbox.put(
            error_envelope(
                refused.reason,
                "too many messages: send this one again after the time in retry_after",
                id_=id_of(text),
                retry_after=wait,
            )
        )


def _refusal(refused: Refused, said: Received) -> str:
    """Return the ERROR for a refused message: of the same id, room and project."""
    room = getattr(said, "room", "")
    project = getattr(said, "project", "")
    return error_envelope(
        refused.reason,
        refused.detail,
        id_=said.id,
        project=str(project),
        room=str(room),
        violations=refused.violations,
        retry_after=refused.retry_after,
    )
