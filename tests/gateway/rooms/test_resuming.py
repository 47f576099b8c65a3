"""Coming back to a project's tasks: what is kept fits into what may wait for a member."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from types import SimpleNamespace
from typing import cast

from callsheet.gateway.plane import Plane
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.outbox import Outbox
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.project_tasks import ProjectFeed
from callsheet.v1.task_event_pb2 import TaskCancelled, TaskEvent
from callsheet.v1.task_service_pb2 import WatchTasksResponse
from tests.support.gateways import PATIENCE
from tests.support.room_clients import some_peer

LIMITS = RoomLimits()


class Told:
    """Stands for the plane: tells facts 1, 2, 3 … with these messages, and then nothing more."""

    def __init__(self, messages: Iterable[str]) -> None:
        self._messages = tuple(messages)
        self.all = asyncio.Event()

    def streamer(self, _credential: str) -> object:
        return SimpleNamespace(watch_tasks=self._watch)

    async def _watch(self, **_asked: object) -> AsyncGenerator[WatchTasksResponse]:
        for number, message in enumerate(self._messages, 1):
            cancelled = TaskCancelled(reason=message)
            event = TaskEvent(task_id="t", sequence=number, epoch="e", task_cancelled=cancelled)
            yield WatchTasksResponse(event=event, cursor=f"c{number}")
        self.all.set()
        await asyncio.Event().wait()


def member() -> Peer:
    outbox = Outbox(envelopes=LIMITS.waiting, characters=LIMITS.waiting_characters)
    return some_peer(outbox)


async def fed(messages: Iterable[str]) -> ProjectFeed:
    """Return a feed that was told these facts."""
    told = Told(messages)
    feed = ProjectFeed("default", cast("Plane", told), LIMITS, closed=lambda _: None, cursor="c0")
    feed.room.announce(member())
    feed.start()
    async with asyncio.timeout(PATIENCE):
        await told.all.wait()
    return feed


async def test_who_comes_back_at_the_limit_is_told_all_and_what_goes_on_meanwhile() -> None:
    feed = await fed("x" for _ in range(600))
    kept = LIMITS.waiting // 2
    assert feed.place(f"c{600 - kept - 1}").missed
    assert not feed.place(f"c{600 - kept}").missed
    # Given a member that is answered, and told all that its room keeps and all that follows
    peer = member()
    for _ in range(1 + LIMITS.kept):
        peer.outbox.put("what was said")
    feed.join(peer, cursor=f"c{600 - kept}")
    # Then there is still room for what goes on
    for _ in range(100):
        peer.outbox.put("what goes on")
    assert peer.outbox.end is None
    assert len(peer.outbox) == 1 + LIMITS.kept + kept + 100
    feed.stop()


async def test_what_is_kept_is_bounded_in_characters_too() -> None:
    feed = await fed("x" * 20_000 for _ in range(120))
    assert feed.place("c20").missed
    oldest = next(number for number in range(121) if not feed.place(f"c{number}").missed)
    assert oldest in range(120 - 53, 120 - 48)
    peer = member()
    peer.outbox.put("x" * LIMITS.kept_bytes)
    feed.join(peer, cursor=f"c{oldest}")
    peer.outbox.put("x" * 900_000)
    assert peer.outbox.end is None
    assert len(peer.outbox) == 2 + 120 - oldest
    feed.stop()


async def test_a_fact_too_long_to_be_kept_is_missed() -> None:
    feed = await fed(["x", "x" * LIMITS.waiting_characters, "x"])
    assert feed.place("c1").missed
    assert not feed.place("c2").missed
    feed.stop()
