"""One room of this process: its members, and how far each has been told."""

from typing import Final

from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.room_names import RoomName

#: Past every sequence: nothing is news to whoever was told up to it.
_NOT_YET: Final = 2**63


class Room:
    """Tells its members each envelope with a sequence once, and in order."""

    def __init__(self, name: RoomName) -> None:
        self.name = name
        #: Every member, and the sequence it has been told up to; in the order they came.
        self._members: dict[Peer, int] = {}
        #: What tells its signals from those of other rooms in an outbox.
        self.outbox_key = f"{name.project}/{name.text}"

    def __len__(self) -> int:
        """Return how many members there are."""
        return len(self._members)

    def __contains__(self, peer: object) -> bool:
        """Return whether the peer is a member."""
        return peer in self._members

    @property
    def members(self) -> tuple[Peer, ...]:
        """The members as they are now, in the order they came."""
        return tuple(self._members)

    def join(self, peer: Peer, *, told: int) -> None:
        """Take in a member that has been told up to this sequence."""
        self._members[peer] = told
        peer.rooms.add(self.name)

    def announce(self, peer: Peer) -> None:
        """Take in a member that is told nothing until it joins."""
        self.join(peer, told=_NOT_YET)

    def leave(self, peer: Peer) -> None:
        """Let a member go; one that is none changes nothing."""
        self._members.pop(peer, None)
        peer.rooms.discard(self.name)

    def tell(self, sequence: int, text: str, *, about: str = "") -> None:
        """Tell everyone who has not been told up to this sequence; later signals come behind it."""
        members = self._members
        key = self.outbox_key + about
        for peer, told in members.items():
            if told < sequence:
                members[peer] = sequence  # a value, not a key: the walk goes on
                peer.outbox.put(text, room=key)

    def begin_anew(self) -> None:
        """Count from zero again: the room's epoch has changed."""
        for peer in self._members:
            self._members[peer] = 0

    def tell_all(self, text: str) -> None:
        """Tell every member something without a sequence that must not be lost."""
        for peer, told in self._members.items():
            if told != _NOT_YET:
                peer.outbox.put(text)

    def signal(self, text: str, *, about: str = "") -> None:
        """Tell every member something of which only the newest *about* the same counts."""
        key = self.outbox_key + about
        for peer, told in self._members.items():
            if told != _NOT_YET:
                peer.outbox.put_signal(text, room=key)
