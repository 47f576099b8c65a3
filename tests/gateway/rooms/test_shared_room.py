"""One shared room: envelopes once and in order, whatever the line did."""

import json
from typing import Any

from callsheet.gateway.rooms.line import Entry, Kept
from callsheet.gateway.rooms.outbox import Outbox
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.rooms.shared_rooms import SharedRoom
from tests.support.room_clients import some_peer

NAME = RoomName("default", RoomKind.WORKFLOW, "w1")


def entry(sequence: int, *, epoch: str = "e1") -> Entry:
    return Entry(sequence, epoch, 1_900_000_000_000_000, b'{"type":"NOTIFICATION"}')


def kept(*sequences: int, epoch: str = "e1") -> Kept:
    return Kept(epoch, sequences[-1], [entry(each, epoch=epoch) for each in sequences])


def placed(*sequences: int) -> SharedRoom:
    room = SharedRoom(NAME, kept=8)
    room.place(kept(*sequences) if sequences else Kept("", 0, []))
    return room


def member(room: SharedRoom) -> Peer:
    peer = some_peer(Outbox(envelopes=64, characters=100_000))
    room.join(peer, sequence=None, epoch="")
    return peer


async def told(peer: Peer) -> list[Any]:
    """Return sequences, and the reasons of errors, in the order they came."""
    found = [json.loads(text) for text in await peer.outbox.taken()]
    return [each.get("sequence") or each["data"]["reason"] for each in found]


async def test_what_is_heard_before_the_room_is_placed_is_told_in_its_order() -> None:
    room = SharedRoom(NAME, kept=8)
    room.take(entry(3))
    room.take(entry(4))
    room.place(kept(1, 2, 3))
    place = room.join(member(room), sequence=0, epoch="e1")
    assert [json.loads(text)["sequence"] for text in place.texts] == [1, 2, 3, 4]
    assert not place.missed


async def test_nothing_is_told_twice() -> None:
    room = placed(1, 2)
    peer = member(room)
    for sequence in (1, 2, 3, 3, 2, 4):
        room.take(entry(sequence))
    assert await told(peer) == [3, 4]


async def test_after_a_broken_link_what_came_meanwhile_is_told_late() -> None:
    room = placed(1)
    peer = member(room)
    room.resume(kept(1, 2, 3))
    room.take(entry(3))
    room.take(entry(4))
    assert await told(peer) == [2, 3, 4]


async def test_after_a_long_break_members_are_told_that_they_missed_something() -> None:
    room = placed(1)
    peer = member(room)
    room.resume(kept(5, 6))
    assert await told(peer) == ["ENVELOPES_MISSED", 5, 6]


async def test_what_is_kept_nowhere_is_missed_too() -> None:
    room = placed(1)
    peer = member(room)
    room.resume(Kept("e1", 4, []))
    room.take(entry(5))
    assert await told(peer) == ["ENVELOPES_MISSED", 5]


async def test_another_epoch_counts_anew() -> None:
    room = placed(1, 2)
    peer = member(room)
    room.take(entry(1, epoch="e2"))
    room.take(entry(2, epoch="e2"))
    assert await told(peer) == [1, 2]
    assert (room.epoch, room.sequence) == ("e2", 2)


async def test_another_epoch_after_a_break_may_have_begun_without_us() -> None:
    room = placed(1, 2)
    peer = member(room)
    room.resume(kept(3, 4, epoch="e2"))
    assert await told(peer) == ["ENVELOPES_MISSED", 3, 4]


async def test_a_room_that_nobody_told_anything_begins_with_the_first() -> None:
    room = placed()
    peer = member(room)
    room.take(entry(1))
    assert await told(peer) == [1]


async def test_who_claims_to_be_ahead_is_told_that_something_is_missing() -> None:
    room = placed(1, 2)
    place = room.join(member(room), sequence=9, epoch="e1")
    assert place.missed
