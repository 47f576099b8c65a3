"""Hands each fact and signal to those who watch many tasks of its project."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from callsheet.control.convert import fact_to_proto
from callsheet.control.errors import Refused
from callsheet.control.feed_inbox import FeedFact, FeedInbox
from callsheet.control.inbox import Signal
from callsheet.control.pulse import Pulse
from callsheet.control.refusals import ProjectWatchersFull, WatchersFull
from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord
from callsheet.ledger.log import LogEntry
from callsheet.ledger.model import FINAL, TaskState
from callsheet.ledger.position import Position
from callsheet.ledger.sightings import Seen, Sightings, Unreadable
from callsheet.ledger.snapshots import WatchFilter
from callsheet.ledger.wire import length_delimited
from callsheet.v1.task_service_pb2 import WatchTasksResponse

_EVENT: Final = WatchTasksResponse.EVENT_FIELD_NUMBER
_CURSOR: Final = WatchTasksResponse.CURSOR_FIELD_NUMBER
#: Watchers of many tasks in this process, and those of one project's among them; each may hold a
#: thousand facts that it has not taken.
MOST_WATCHERS: Final = 1_000
MOST_OF_ONE_PROJECT: Final = 500
#: Tasks whose signal came before the fact it follows, which the log has yet to tell.
EARLY_KEPT: Final = 1_000


class Feed:
    """Knows who watches many tasks, and encodes for all of them what one of them wants."""

    def __init__(
        self,
        sightings: Sightings,
        pulse: Pulse,
        *,
        most_watchers: int = MOST_WATCHERS,
        most_of_one_project: int = MOST_OF_ONE_PROJECT,
    ) -> None:
        self._sightings = sightings
        self._pulse = pulse
        self._most_watchers = most_watchers
        self._most_of_one_project = most_of_one_project
        self._inboxes: dict[str, set[FeedInbox]] = {}
        self._early: dict[str, tuple[SignalRecord, Signal]] = {}
        #: How far the log was told to those who are level with it.
        self.position = Position(0, 0)

    @property
    def watchers(self) -> int:
        """How many watchers of many tasks there are."""
        return sum(len(inboxes) for inboxes in self._inboxes.values())

    @property
    def backlog(self) -> int:
        """How many facts are kept for watchers that have not taken them."""
        return sum(len(inbox) for inbox in self._all())

    @contextmanager
    def subscribe(self, wanted: WatchFilter) -> Generator[FeedInbox]:
        """Return an inbox of what fits, from when it is behind on.

        Raises WatchersFull; ProjectWatchersFull, so that no project takes the place of all others.
        """
        if len(self._inboxes.get(wanted.project, ())) >= self._most_of_one_project:
            raise ProjectWatchersFull(wanted.project, self._most_of_one_project)
        if self.watchers >= self._most_watchers:
            raise WatchersFull(self._most_watchers)
        inbox = FeedInbox(wanted)
        self._inboxes.setdefault(wanted.project, set()).add(inbox)
        try:
            yield inbox
        finally:
            inboxes = self._inboxes[wanted.project]
            inboxes.discard(inbox)
            if not inboxes:
                del self._inboxes[wanted.project]

    async def deliver(self, entries: Sequence[LogEntry]) -> None:
        """Tell what entries of the log say, in their order."""
        for seen in await self._sightings.look(entries):
            if isinstance(seen, Unreadable):
                self._end(self._inboxes.get(seen.project, ()), seen.error)
                continue
            self._tell(seen)
            if seen.entry.task_id in self._early:
                self._tell_early(seen)
        if entries:
            self.position = Position.parse(entries[-1].position)

    async def signal(self, record: SignalRecord, signal: Signal) -> None:
        """Tell a signal, whose payload is a serialised response of either watch."""
        task = await self._sightings.find(record.task_id)
        if task is None or task.project not in self._inboxes:
            return
        if record.sequence > task.sequence:
            self._early[record.task_id] = (record, signal)
            if len(self._early) > EARLY_KEPT:
                del self._early[next(iter(self._early))]
        elif task.state is TaskState.RUNNING and record.attempt >= task.attempt:
            self._signal(task.project, record.task_id, task.task_type, signal)

    async def facts(
        self, wanted: WatchFilter, entries: Sequence[LogEntry]
    ) -> list[tuple[Position, FeedFact | None]]:
        """Return what entries say to one watcher who reads the log; None: it does not fit.

        Raises UnknownVersion for a fact of the project that this version cannot read.
        """
        found: list[tuple[Position, FeedFact | None]] = []
        for seen in await self._sightings.look(entries):
            position = Position.parse(seen.entry.position)
            if isinstance(seen, Unreadable):
                if seen.project == wanted.project:
                    raise seen.error
            elif _fits(wanted, seen):
                found.append((position, self._fact(seen, position)))
                continue
            found.append((position, None))
        return found

    def fall_behind(self, position: Position) -> None:
        """Make all watchers read the log; from *position* on they are told what it says."""
        self.position = position
        self._early.clear()
        for inbox in self._all():
            inbox.fall_behind()

    def end_all(self, reason: Refused) -> None:
        """Make all watchers end with an error."""
        self._end(self._all(), reason)

    def cursor(self, position: Position) -> str:
        """Return what a watcher goes on with after the position."""
        return f"{self._pulse.epoch}:{position}"

    def _tell(self, seen: Seen) -> None:
        fact: FeedFact | None = None
        for inbox in self._inboxes.get(seen.task.project, ()):
            if _fits(inbox.wanted, seen):
                fact = fact or self._fact(seen, Position.parse(seen.entry.position))
                inbox.put(fact)

    def _tell_early(self, seen: Seen) -> None:
        record, signal = self._early[seen.entry.task_id]
        if record.sequence > seen.task.sequence:
            return
        del self._early[seen.entry.task_id]
        if seen.task.state is TaskState.RUNNING and record.attempt >= seen.task.attempt:
            self._signal(seen.task.project, record.task_id, seen.task.task_type, signal)

    def _signal(self, project: str, task_id: str, task_type: str, signal: Signal) -> None:
        for inbox in self._inboxes.get(project, ()):
            if inbox.takes_signals(task_id, task_type):
                inbox.tell(task_id, signal)

    def _fact(self, seen: Seen, position: Position) -> FeedFact:
        record, task_id = seen.record, seen.entry.task_id
        return FeedFact(
            position=position,
            task_id=task_id,
            sequence=record.sequence,
            attempt=record.attempt_started.attempt,
            is_final=seen.task.state in FINAL,
            payload=self._payload(record, task_id, position),
        )

    def _payload(self, record: EventRecord, task_id: str, position: Position) -> bytes:
        event = fact_to_proto(record, task_id=task_id, epoch=self._pulse.epoch)
        # Put together from bytes: a message that is given to another one is copied.
        return length_delimited(_EVENT, event.SerializeToString()) + length_delimited(
            _CURSOR, self.cursor(position).encode()
        )

    def _end(self, inboxes: Iterable[FeedInbox], reason: Refused) -> None:
        for inbox in inboxes:
            inbox.end(reason)

    def _all(self) -> Iterator[FeedInbox]:
        return (inbox for inboxes in self._inboxes.values() for inbox in inboxes)


def _fits(wanted: WatchFilter, seen: Seen) -> bool:
    return (
        seen.task.project == wanted.project
        and wanted.takes(seen.entry.task_id, seen.task.task_type)
        and wanted.takes_in(seen.before, seen.task.state)
    )
