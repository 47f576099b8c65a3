"""What happens to the tasks of a project, for those in its room who asked for it."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from typing import Final, NamedTuple

from callsheet.client import AsyncTaskClient, CallError, DataLoss, InvalidArgument
from callsheet.client.states import is_signal
from callsheet.gateway.plane import TIMEOUT, Plane
from callsheet.gateway.problems import Refused, refused_of
from callsheet.gateway.rooms.envelope import error_envelope
from callsheet.gateway.rooms.feed import Feed
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.rooms.task_update import task_update
from callsheet.v1.task_event_pb2 import TaskEvent

_LATER: Final = timedelta(seconds=10)


class _Kept(NamedTuple):
    number: int
    cursor: str
    text: str


class Place(NamedTuple):
    """Where a member begins."""

    cursor: str
    #: Whether something between the cursor it named and this one is not kept.
    missed: bool


class ProjectFeed(Feed):
    """One watch of a project's tasks; facts are numbered as they come, for this process alone."""

    def __init__(
        self,
        project: str,
        plane: Plane,
        limits: RoomLimits,
        *,
        closed: Callable[[Feed], None],
        cursor: str = "",
    ) -> None:
        """*cursor* is where to begin; empty: now."""
        super().__init__(RoomName(project, RoomKind.TASKS, project), plane, closed=closed)
        #: The room that its envelopes name.
        self._shown = RoomName(project, RoomKind.PROJECT, project).text
        #: Behind what was told last.
        self._cursor = cursor
        self._begun = asyncio.Event()
        if cursor:
            self._begun.set()
        self._number = 0
        #: Half of what may wait for a member: who comes back is told it at once, and more follows.
        self._most = limits.waiting // 2
        self._most_characters = limits.waiting_characters // 2
        self._recent: deque[_Kept] = deque()
        self._characters = 0
        #: The cursor that the oldest fact kept is behind; and of each cursor, which fact it is.
        self._oldest = cursor
        self._places: dict[str, int] = {cursor: 0} if cursor else {}

    async def begun(self, *, timeout: timedelta) -> None:
        """Wait until nothing that happens from now on is missed. Raises TimeoutError."""
        async with asyncio.timeout(timeout.total_seconds()):
            await self._begun.wait()

    def place(self, cursor: str) -> Place:
        """Return where a member begins that has seen all up to a cursor; '': now."""
        if not cursor or cursor in self._places:
            return Place(cursor or self._cursor, missed=False)
        return Place(self._cursor, missed=True)

    def join(self, peer: Peer, *, cursor: str) -> None:
        """Take in a member, and tell it what followed a cursor that is kept."""
        after = self._places.get(cursor, self._number)
        for kept in self._recent:
            if kept.number > after:
                peer.outbox.put(kept.text)
        self.room.join(peer, told=self._number)

    def expel(self, peer: Peer, reason: str, message: str) -> None:
        """Let a member go, and say why; whoever waits to be let in is not kept waiting."""
        super().expel(peer, reason, message)
        if not self.room:
            self._begun.set()

    async def _watch(self, client: AsyncTaskClient) -> None:
        while True:
            responses = client.watch_tasks(
                project=self.name.project, cursor=self._cursor, snapshot_size=0
            )
            try:
                async with aclosing(responses):
                    async for response in responses:
                        if response.HasField("event"):
                            self._tell(response.event, response.cursor)
                        if response.cursor:
                            self._cursor = response.cursor
                            self._begun.set()
            except (DataLoss, InvalidArgument) as error:
                if not self._cursor:
                    raise
                self._begin_anew(error)

    def _tell(self, event: TaskEvent, cursor: str) -> None:
        text = task_update(event, project=self.name.project, room=self._shown, cursor=cursor)
        if is_signal(event):
            self.room.signal(text, about=event.task_id)
            return
        self._number += 1
        self._keep(_Kept(self._number, cursor, text))
        self.room.tell(self._number, text, about=event.task_id)

    def _keep(self, kept: _Kept) -> None:
        self._recent.append(kept)
        self._characters += len(kept.text)
        self._places[kept.cursor] = kept.number
        while len(self._recent) > self._most or self._characters > self._most_characters:
            # Who is behind the one that goes can no longer be told all that followed.
            self._places.pop(self._oldest, None)
            gone = self._recent.popleft()
            self._oldest = gone.cursor
            self._characters -= len(gone.text)

    def _begin_anew(self, error: CallError) -> None:
        self._cursor = self._oldest = ""
        self._begun.clear()
        self._recent.clear()
        self._characters = 0
        self._places.clear()
        told = refused_of(error)
        self.room.tell_all(
            self._goodbye(told.reason, f"facts were missed, read the tasks anew: {told.detail}")
        )

    def _goodbye(self, reason: str, message: str) -> str:
        return error_envelope(reason, message, project=self.name.project, room=self._shown)

    def _end(self, error: CallError | None) -> None:
        if error is not None:
            told = refused_of(error)
            self.dismiss(told.reason, f"tasks are told no more: {told.detail}")


class ProjectTasks:
    """Opens a watch for the first who asks in a project, and closes it with the last."""

    def __init__(self, plane: Plane, limits: RoomLimits) -> None:
        self._plane = plane
        self._limits = limits
        self._feeds: dict[str, ProjectFeed] = {}

    def __len__(self) -> int:
        """Return how many projects are watched."""
        return len(self._feeds)

    async def open(self, peer: Peer, project: str, *, cursor: str) -> ProjectFeed:
        """Return the watch of a project, in which the peer is told nothing until it joins.

        Raises Refused when too many projects are watched, or the plane does not answer.
        """
        feed = self._feeds.get(project)
        if feed is None:
            self._check()
            feed = self._feeds[project] = ProjectFeed(
                project, self._plane, self._limits, closed=self._forget, cursor=cursor
            )
            feed.room.announce(peer)
            feed.start()
        else:
            feed.room.announce(peer)
        await self.begun(feed, peer)
        return feed

    async def begun(self, feed: ProjectFeed, peer: Peer) -> None:
        """Wait until the watch misses nothing. Raises Refused when the plane does not answer."""
        project = feed.name.project
        try:
            await feed.begun(timeout=TIMEOUT)
        except TimeoutError:
            self.leave(peer, project)
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "the plane does not answer",
                retry_after=_LATER,
            ) from None
        if peer not in feed.room:  # it was refused meanwhile, and knows why
            raise Refused(
                HTTPStatus.NOT_FOUND, "PROJECT_NOT_FOUND", f"there is no project {project}"
            )

    def leave(self, peer: Peer, project: str) -> None:
        """Tell a peer no more."""
        feed = self._feeds.get(project)
        if feed is None:
            return
        feed.room.leave(peer)
        if not feed.room:
            del self._feeds[project]
            feed.stop()

    def close(self) -> None:
        """Watch no more."""
        for feed in tuple(self._feeds.values()):
            feed.stop()

    def _check(self) -> None:
        most = self._limits.projects_watched
        if len(self._feeds) >= most:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "PROJECTS_EXHAUSTED",
                f"this gateway watches {most} projects already",
                retry_after=_LATER,
            )

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.name.project) is feed:
            del self._feeds[feed.name.project]
