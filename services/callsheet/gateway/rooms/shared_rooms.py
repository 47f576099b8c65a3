"""The rooms of projects, workflows and networks: what is told there comes by the line."""

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final, NamedTuple, cast

import structlog

from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.envelope import error_envelope, stamped
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.line import Entry, Heard, Kept, RoomLine
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.peers import Peers
from callsheet.gateway.rooms.room import Room
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.side_redis import SideRedisAway

#: The pause before a broken link to Redis is tried again.
PAUSE: Final = timedelta(milliseconds=500)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Place(NamedTuple):
    """Where a new member begins, and what it is told first."""

    epoch: str
    sequence: int
    missed: bool
    texts: list[str]


class SharedRoom:
    """A room, and the newest of what was told in it: as much as the line keeps."""

    def __init__(self, name: RoomName, *, kept: int) -> None:
        self.room = Room(name)
        self.epoch = ""
        self.sequence = 0
        #: Whether it knows where the line is; before that, what it hears waits.
        self.is_placed = False
        self.placing = asyncio.Lock()
        #: Peers that are about to join.
        self.coming = 0
        self._recent: deque[tuple[int, str]] = deque(maxlen=kept)
        self._early: deque[Entry] = deque(maxlen=kept)

    def place(self, kept: Kept) -> None:
        """Begin where the line is, and catch up with what was heard meanwhile."""
        self.is_placed = True
        self.epoch, self.sequence = kept.epoch, kept.sequence - len(kept.entries)
        for entry in (*kept.entries, *self._early):
            self.take(entry)
        self._early.clear()

    def resume(self, kept: Kept) -> None:
        """Catch up with the line after the link was broken."""
        if kept.epoch == self.epoch:
            for entry in kept.entries:
                self.take(entry)
            if kept.sequence > self.sequence:
                self._miss(kept.epoch, kept.sequence)
        elif kept.epoch:
            for entry in kept.entries:
                self.take(entry)

    def take(self, entry: Entry) -> None:
        """Tell the members what was published, once and in order."""
        if not self.is_placed:
            self._early.append(entry)
            return
        if entry.epoch != self.epoch:
            self._begin(entry.epoch)
        if entry.sequence <= self.sequence:
            return
        if entry.sequence > self.sequence + 1:
            self._miss(entry.epoch, entry.sequence - 1)
        self.sequence = entry.sequence
        text = text_of(entry)
        self._recent.append((entry.sequence, text))
        self.room.tell(entry.sequence, text)

    def join(self, peer: Peer, *, sequence: int | None, epoch: str) -> Place:
        """Take in a member; return from where on it is told, and what followed already."""
        follows: list[tuple[int, str]] = []
        missed = False
        if sequence is not None:
            known = epoch in ("", self.epoch) and sequence <= self.sequence
            after = sequence if known else 0
            first = self._recent[0][0] if self._recent else self.sequence + 1
            missed = not known or after + 1 < first
            follows = [each for each in self._recent if each[0] > after]
        self.room.join(peer, told=self.sequence)
        begin = follows[0][0] - 1 if follows else self.sequence
        return Place(self.epoch, begin, missed, [text for _, text in follows])

    def _begin(self, epoch: str) -> None:
        self.epoch, self.sequence = epoch, 0
        self._recent.clear()
        self.room.begin_anew()

    def _miss(self, epoch: str, sequence: int) -> None:
        """Say that what led up to a sequence is lost."""
        name = self.room.name
        _log.warning("room_envelopes_missed", room=name.text, sequence=sequence)
        self._recent.clear()
        self.epoch, self.sequence = epoch, sequence
        self.room.tell_all(
            error_envelope(
                "ENVELOPES_MISSED",
                f"what was told here up to sequence {sequence} may have been missed",
                project=name.project,
                room=name.text,
            )
        )


class SharedRooms:
    """Opens a room with its first member and closes it with its last."""

    def __init__(self, line: RoomLine, peers: Peers, limits: RoomLimits) -> None:
        self._line = line
        self._peers = peers
        self._kept = limits.kept
        self._rooms: dict[RoomName, SharedRoom] = {}
        self._linked = asyncio.Event()

    def __len__(self) -> int:
        """Return how many rooms are open."""
        return len(self._rooms)

    @property
    def is_linked(self) -> bool:
        """Whether it hears what is published now."""
        return self._linked.is_set()

    async def linked(self, *, timeout: timedelta) -> None:
        """Wait until it hears what is published. Raises TimeoutError."""
        async with asyncio.timeout(timeout.total_seconds()):
            await self._linked.wait()

    async def join(self, peer: Peer, name: RoomName, *, sequence: int | None, epoch: str) -> Place:
        """Take a peer into a room; return from where on it is told, and what followed already.

        Raises Refused while Redis is away.
        """
        shared = self._rooms.get(name)
        if shared is None:
            shared = self._rooms[name] = SharedRoom(name, kept=self._kept)
        shared.coming += 1
        try:
            async with shared.placing:
                if not self.is_linked:
                    raise rooms_away()
                if not shared.is_placed:
                    shared.place(await self._line.kept(name))
            return shared.join(peer, sequence=sequence, epoch=epoch)
        except SideRedisAway as error:
            raise rooms_away() from error
        finally:
            shared.coming -= 1
            self._close_if_empty(name)

    def leave(self, peer: Peer, name: RoomName) -> None:
        """Let a peer go."""
        shared = self._rooms.get(name)
        if shared is not None:
            shared.room.leave(peer)
            self._close_if_empty(name)

    async def run(self) -> None:
        """Hear what is published, for ever; a broken link is made anew."""
        while True:
            try:
                await self._line.follow(linked=self._resume, heard=self._hear)
            except SideRedisAway as error:
                if self.is_linked:
                    _log.warning("rooms_link_lost", reason=str(error))
            finally:
                self._linked.clear()
            await asyncio.sleep(PAUSE.total_seconds())

    async def _resume(self) -> None:
        for shared in tuple(self._rooms.values()):
            if shared.is_placed:
                shared.resume(await self._line.kept(shared.room.name))
        _log.info("rooms_linked", rooms=len(self._rooms))
        self._linked.set()

    def _hear(self, heard: Heard) -> None:
        if heard.to:
            peer = self._peers.find(heard.to, project=heard.project)
            if peer is not None:
                peer.outbox.put(text_of(heard.entry))
            return
        name = RoomName.parse(heard.room, project=heard.project)
        shared = self._rooms.get(name)
        if shared is not None:
            if heard.entry.sequence:
                shared.take(heard.entry)
            else:
                shared.room.signal(text_of(heard.entry))
        if name.kind is RoomKind.PROJECT:
            self._tell_others(name, shared, heard.entry)

    def _tell_others(self, name: RoomName, shared: SharedRoom | None, entry: Entry) -> None:
        """Tell those of a project who are not in its room."""
        members = shared.room if shared is not None else ()
        others = [each for each in self._peers.of_project(name.project) if each not in members]
        if not others:
            return
        text = text_of(entry)
        for peer in others:
            if entry.sequence:
                peer.outbox.put(text)
            else:
                peer.outbox.put_signal(text, room=f"{name.project}/{name.text}")

    def _close_if_empty(self, name: RoomName) -> None:
        shared = self._rooms.get(name)
        if shared is not None and not shared.room and not shared.coming:
            del self._rooms[name]


def text_of(entry: Entry) -> str:
    """Return the envelope as it is sent: with the place it was given, and the time."""
    moment = _EPOCH + timedelta(microseconds=entry.time)
    return stamped(entry.envelope, sequence=entry.sequence, epoch=entry.epoch, time=moment)


def rooms_away() -> Refused:
    """Return the refusal of what needs Redis, while it is away."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ROOMS_UNAVAILABLE",
        "the Redis of the rooms is away; rooms of tasks go on without it",
        retry_after=timedelta(seconds=1),
    )
