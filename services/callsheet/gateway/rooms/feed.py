"""One watch of the plane for all members of a room, whoever of them may ask for it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.client import AsyncTaskClient
from callsheet.client.errors import (
    CallError,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from callsheet.client.retry import is_transient
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import refused_of
from callsheet.gateway.rooms.envelope import encode, error_envelope
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.room import Room
from callsheet.gateway.rooms.room_names import RoomName

#: The pause before a watch that broke is opened anew.
PAUSE: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Feed(ABC):
    """Watches with the key of the member that came first; when that no longer holds, the next's."""

    def __init__(self, name: RoomName, plane: Plane, *, closed: Callable[["Feed"], None]) -> None:
        """*closed* is called when it follows no more, before anybody else can do anything."""
        self.room = Room(name)
        self._plane = plane
        self._closed = closed
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> RoomName:
        """The room's name."""
        return self.room.name

    def start(self) -> None:
        """Follow the plane from now on, for as long as there are members; again: nothing."""
        if self._following is None:
            self._following = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Follow no more."""
        if self._following is not None:
            self._following.cancel()

    def dismiss(self, reason: str, message: str) -> None:
        """Let every member go, and say why."""
        for peer in self.room.members:
            self.expel(peer, reason, message)

    def expel(self, peer: Peer, reason: str, message: str) -> None:
        """Let a member go, and say why."""
        self.room.leave(peer)
        peer.outbox.put(self._goodbye(reason, message))

    @abstractmethod
    def _goodbye(self, reason: str, message: str) -> str:
        """Return the envelope that says that a member is told no more."""

    @abstractmethod
    async def _watch(self, client: AsyncTaskClient) -> None:
        """Tell the members what happens until there is no more, or the watch breaks.

        Raises CallError.
        """

    @abstractmethod
    def _end(self, error: CallError | None) -> None:
        """Say that nothing more will come: all was told, or an error that does not pass."""

    async def _run(self) -> None:
        try:
            await self._follow()
        except Exception:  # noqa: BLE001  # a defect ends this room alone, and is logged
            _log.exception("room_feed_failed", room=self.name.text)
            self.dismiss("INTERNAL", "the room failed; join it anew")
        finally:
            self._closed(self)

    async def _follow(self) -> None:
        while self.room:
            credential = self.room.members[0].credential
            try:
                await self._watch(self._plane.streamer(credential))
            except (Unauthenticated, PermissionDenied, NotFound) as error:
                self._expel_all(credential, error)
            except CallError as error:
                if not (is_transient(error) or isinstance(error, DeadlineExceeded)):
                    self._end(error)
                    return
                await self._bear(error)
            else:
                self._end(None)
                return

    async def _bear(self, error: CallError) -> None:
        _log.warning("room_feed_broken", room=self.name.text, reason=error.message)
        told = refused_of(error)
        wait = max(PAUSE, error.retry_delay or PAUSE)
        self.room.tell_all(
            error_envelope(
                told.reason,
                "the plane is away; the room goes on when it is back",
                project=self.name.project,
                room=self.name.text,
                retry_after=wait,
            )
        )
        await asyncio.sleep(wait.total_seconds())

    def _expel_all(self, credential: str, error: CallError) -> None:
        told = refused_of(error)
        for peer in self.room.members:
            if peer.credential == credential:
                self.expel(peer, told.reason, told.detail)


def joined(
    name: RoomName,
    *,
    id_: str,
    sequence: int | None = None,
    epoch: str = "",
    cursor: str = "",
    missed: bool = False,
) -> str:
    """Return the answer to JOIN: from where on the room is told; *missed*: not all that follows."""
    return encode(
        "JOINED",
        id=id_,
        project=name.project,
        room=name.text,
        sequence=sequence,
        epoch=epoch,
        cursor=cursor,
        data={"missed": missed},
    )


def left(name: RoomName, *, id_: str = "", reason: str = "ASKED", message: str = "") -> str:
    """Return the envelope that says that a room is told no more."""
    return encode(
        "LEFT",
        id=id_,
        project=name.project,
        room=name.text,
        data={"reason": reason, "message": message},
    )
