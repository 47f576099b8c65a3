"""The rooms of tasks: each is one watch of its task, shared by all its members."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from callsheet.client import AsyncTaskClient, CallError, WaitTimeout
from callsheet.client.states import is_signal
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused, refused_of
from callsheet.gateway.rooms.envelope import Join
from callsheet.gateway.rooms.feed import Feed, joined, left
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.rooms.task_update import task_update
from callsheet.gateway.rooms.turns import Turns
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_pb2 import Task

#: One watch lasts as long; then it is opened anew behind the last fact.
WATCHED: Final = timedelta(hours=1)
_LATER: Final = timedelta(seconds=10)


class TaskFeed(Feed):
    """Keeps every fact of its task while somebody is in the room: whoever comes gets them all."""

    def __init__(
        self, name: RoomName, plane: Plane, *, epoch: str, closed: Callable[[Feed], None]
    ) -> None:
        super().__init__(name, plane, closed=closed)
        #: The epoch of the facts.
        self.epoch = epoch
        #: The facts from sequence 1 on.
        self._facts: list[str] = []
        self._signal = ""

    def has(self, asked: Join) -> bool:
        """Whether the place that is asked for is known to be one in the task's log."""
        return asked.epoch in ("", self.epoch) and (asked.sequence or 0) <= len(self._facts)

    def join(self, peer: Peer, *, told: int) -> None:
        """Take in a member that has seen the facts up to a sequence, and tell it the others."""
        for text in self._facts[told:]:
            peer.outbox.put(text)
        if self._signal:
            peer.outbox.put_signal(self._signal, room=self.room.outbox_key)
        self.room.join(peer, told=max(told, len(self._facts)))

    async def _watch(self, client: AsyncTaskClient) -> None:
        is_over = False
        while not is_over:
            events = client.watch(
                self.name.id,
                after_sequence=len(self._facts),
                epoch=self.epoch,
                timeout=WATCHED,
            )
            async with aclosing(events):
                try:
                    async for event in events:
                        self._tell(event)
                    is_over = True
                except WaitTimeout:
                    continue  # it lives longer than one watch

    def _tell(self, event: TaskEvent) -> None:
        text = task_update(event, project=self.name.project, room=self.name.text)
        if is_signal(event):
            self._signal = text
            self.room.signal(text)
            return
        self._facts.append(text)
        self._signal = ""
        self.room.tell(event.sequence, text)

    def _goodbye(self, reason: str, message: str) -> str:
        return left(self.name, reason=reason, message=message)

    def _end(self, error: CallError | None) -> None:
        if error is None:
            self.dismiss("TASK_ENDED", "the task has ended; nothing more will happen to it")
        else:
            told = refused_of(error)
            self.dismiss(told.reason, told.detail)


class TaskRooms:
    """Opens a room with its first member, and closes it with its last, or with the task."""

    def __init__(self, plane: Plane, limits: RoomLimits) -> None:
        self._plane = plane
        self._most = limits.tasks_watched
        self._feeds: dict[RoomName, TaskFeed] = {}
        self._turns = Turns()

    def __len__(self) -> int:
        """Return how many tasks are watched."""
        return len(self._feeds)

    async def join(self, peer: Peer, asked: Join) -> None:
        """Take a peer into the room of a task that its key may read.

        Raises CallError, as GetTask does; Refused: the place is not one in the task's log, or
        this process watches all the tasks it may.
        """
        task_id = asked.room.partition(":")[2]
        async with self._turns.of(task_id):
            # Many come to one room at once: only the first of them has to ask.
            feed = self._open_to(peer, task_id, asked)
            if feed is None:
                task = await self._plane.client(peer.credential).get(task_id)
                feed = self._feed_of(task, asked)
        told = asked.sequence or 0
        peer.outbox.put(joined(feed.name, id_=asked.id, sequence=told, epoch=feed.epoch))
        feed.join(peer, told=told)
        feed.start()

    def _open_to(self, peer: Peer, task_id: str, asked: Join) -> TaskFeed | None:
        """Return the feed of the task, if it is known without asking that the peer may join it."""
        for project in (asked.project,) if asked.project else peer.projects:
            feed = self._feeds.get(RoomName(project, RoomKind.TASK, task_id))
            if feed is not None and project in peer.projects and feed.has(asked):
                return feed
        return None

    def _feed_of(self, task: Task, asked: Join) -> TaskFeed:
        """Return the feed of a task that the peer may read, a new one if there is none."""
        _check_place(task, asked)
        if asked.project not in ("", task.project):
            raise Refused(HTTPStatus.NOT_FOUND, "TASK_NOT_FOUND", "the project has no such task")
        name = RoomName(task.project, RoomKind.TASK, task.id)
        feed = self._feeds.get(name)
        if feed is not None:
            return feed
        self._check(task.project)
        feed = TaskFeed(name, self._plane, epoch=task.epoch, closed=self._forget)
        self._feeds[name] = feed
        return feed

    def leave(self, peer: Peer, name: RoomName) -> None:
        """Let a peer go; with the last one the room ends."""
        feed = self._feeds.get(name)
        if feed is None:
            return
        feed.room.leave(peer)
        if not feed.room:
            del self._feeds[name]
            feed.stop()

    def close(self) -> None:
        """Watch no more."""
        for feed in tuple(self._feeds.values()):
            feed.stop()

    def _check(self, project: str) -> None:
        """Refuse one task more than may be watched: of all, and half as many of one project."""
        share = (self._most + 1) // 2
        if len(self._feeds) >= self._most:
            raise _exhausted("TASKS_EXHAUSTED", f"this gateway watches {self._most} tasks already")
        if sum(name.project == project for name in self._feeds) >= share:
            detail = f"this gateway watches {share} tasks of the project already"
            raise _exhausted("PROJECT_TASKS_EXHAUSTED", detail)

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]


def _exhausted(reason: str, detail: str) -> Refused:
    return Refused(HTTPStatus.TOO_MANY_REQUESTS, reason, detail, retry_after=_LATER)


def _check_place(task: Task, asked: Join) -> None:
    """Refuse a place that is not in the task's log."""
    if asked.epoch and asked.epoch != task.epoch:
        raise Refused(
            HTTPStatus.GONE,
            "EPOCH_CHANGED",
            "the ledger was restored since; forget what you know of the task and join anew",
        )
    told = asked.sequence or 0
    if told > task.sequence:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "SEQUENCE_AHEAD",
            f"the task has no sequence {told} yet; its last is {task.sequence}",
        )
