"""One tail of the log and one ear for signals feed all watchers of this process."""

import asyncio
from collections.abc import Generator, Iterable, Sequence
from contextlib import aclosing, contextmanager
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.control.convert import fact_to_proto, signal_to_proto
from callsheet.control.errors import Refused
from callsheet.control.feed import MOST_OF_ONE_PROJECT, MOST_WATCHERS, Feed
from callsheet.control.feed_inbox import FeedInbox
from callsheet.control.inbox import Fact, Inbox, Signal
from callsheet.control.pulse import Pulse
from callsheet.control.refusals import ShuttingDown
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event, parse_signal, progress_of
from callsheet.ledger.errors import (
    CursorLost,
    EpochChanged,
    LedgerError,
    LedgerUnavailable,
    UnknownVersion,
)
from callsheet.ledger.log import Log, LogEntry
from callsheet.ledger.position import Position
from callsheet.ledger.sightings import Sightings
from callsheet.ledger.snapshots import WatchFilter
from callsheet.ledger.store import Store
from callsheet.v1.task_service_pb2 import WatchTaskResponse

#: How long watchers wait for a ledger that is away before they are told so.
OUTAGE: Final = timedelta(seconds=30)
#: The pause before a broken link is tried again.
PAUSE: Final = timedelta(milliseconds=250)
#: How long one read of the log waits for news.
_READ_TIMEOUT: Final = timedelta(seconds=1)
_READ_ENTRIES: Final = 512

#: The facts after which no further attempt can come.
_FINAL: Final = frozenset({"task_succeeded", "task_failed", "task_cancelled"})

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Hub:
    """Hands each fact and signal to the inboxes of its task's watchers, and to the feed.

    It reads the log only while somebody watches. Whenever it may have missed something (the link
    broke, the log was trimmed or rewound) all inboxes fall behind, and their watchers read the
    store, or the log from where they are: it never has to know what it missed.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        pulse: Pulse,
        *,
        outage: timedelta = OUTAGE,
        watchers: int = MOST_WATCHERS,
        watchers_of_one_project: int = MOST_OF_ONE_PROJECT,
    ) -> None:
        """*watchers* are those of many tasks, and so are those *of_one_project*."""
        self._log = log
        self._pulse = pulse
        #: Feeds those who watch many tasks.
        self.feed = Feed(
            Sightings(store),
            pulse,
            most_watchers=watchers,
            most_of_one_project=watchers_of_one_project,
        )
        self._outage = outage.total_seconds()
        self._inboxes: dict[str, set[Inbox]] = {}
        self._wanted = asyncio.Event()
        self._is_linked = False
        self._is_closed = False
        self._lost_at: float | None = None
        pulse.on_change.append(self._epoch_changed)

    @property
    def watchers(self) -> int:
        """How many watchers there are of one task, or of many."""
        return sum(len(inboxes) for inboxes in self._inboxes.values()) + self.feed.watchers

    @property
    def is_linked(self) -> bool:
        """Whether it follows the log now."""
        return self._is_linked

    @property
    def backlog(self) -> int:
        """How many facts are kept for watchers that have not taken them."""
        return sum(len(inbox) for inbox in self._all()) + self.feed.backlog

    @contextmanager
    def subscribe(self, task_id: str) -> Generator[Inbox]:
        """Return an inbox that gets what happens to the task from when it is behind on."""
        inbox = Inbox()
        self._inboxes.setdefault(task_id, set()).add(inbox)
        self._wanted.set()
        if self._is_closed:
            inbox.end(ShuttingDown())
        elif self._is_linked:
            inbox.fall_behind()
        try:
            yield inbox
        finally:
            inboxes = self._inboxes[task_id]
            inboxes.discard(inbox)
            if not inboxes:
                del self._inboxes[task_id]

    @contextmanager
    def subscribe_many(self, wanted: WatchFilter) -> Generator[FeedInbox]:
        """Return an inbox that gets what happens to all tasks that fit.

        Raises WatchersFull, ProjectWatchersFull.
        """
        with self.feed.subscribe(wanted) as inbox:
            self._wanted.set()
            if self._is_closed:
                inbox.end(ShuttingDown())
            yield inbox

    def shut_down(self) -> None:
        """End every watcher, and those to come, so that their clients go on elsewhere."""
        self._is_closed = True
        self._end_all(ShuttingDown())

    async def run(self) -> None:
        """Feed the inboxes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tail())
            tasks.create_task(self._listen())

    async def _tail(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
            except CursorLost as error:
                _log.warning("log_cursor_lost", position=error.position)
                self._is_linked = False
            except LedgerUnavailable as error:
                self._note_outage(error)
            if self._is_watched:
                await asyncio.sleep(PAUSE.total_seconds())

    async def _follow(self) -> None:
        """Read the log from its end on, until nobody watches any more."""
        position = await self._log.end()
        await self._pulse.look()
        self._is_linked = True
        self._lost_at = None
        for inbox in self._all():
            inbox.fall_behind()
        self.feed.fall_behind(Position.parse(position))
        while self._is_watched:
            entries = await self._log.after(position, limit=_READ_ENTRIES, timeout=_READ_TIMEOUT)
            for entry in entries:
                self._deliver(entry)
                position = entry.position
            # Also while nobody watches many: who begins to is told from where the log is.
            await self._feed_many(entries)
        self._is_linked = False
        self._wanted.clear()

    async def _listen(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                async with aclosing(self._log.signals()) as signals:
                    async for content in signals:
                        await self._signal(content)
                        if not self._is_watched:
                            break
            except LedgerUnavailable:
                await asyncio.sleep(PAUSE.total_seconds())

    def _deliver(self, entry: LogEntry) -> None:
        inboxes = self._inboxes.get(entry.task_id)
        if not inboxes:
            return
        try:
            fact = make_fact(parse_event(entry.event), entry.task_id, epoch=self._pulse.epoch)
        except UnknownVersion as error:
            _end(inboxes, error)
            return
        for inbox in inboxes:
            inbox.put(fact)

    async def _feed_many(self, entries: Sequence[LogEntry]) -> None:
        if self.feed.watchers:
            await self.feed.deliver(entries)
        elif entries:
            self.feed.position = Position.parse(entries[-1].position)

    async def _signal(self, content: bytes) -> None:
        try:
            record = parse_signal(content)
        except UnknownVersion as error:
            _log.warning("signal_dropped", reason=str(error))
            return
        inboxes = self._inboxes.get(record.task_id)
        if not inboxes and not self.feed.watchers:
            return
        event = signal_to_proto(
            progress_of(record),
            task_id=record.task_id,
            epoch=self._pulse.epoch,
            sequence=record.sequence,
        )
        payload = WatchTaskResponse(event=event).SerializeToString()
        signal = Signal(record.sequence, record.attempt, payload)
        for inbox in inboxes or ():
            inbox.tell(signal)
        if self.feed.watchers:
            await self.feed.signal(record, signal)

    def _note_outage(self, error: LedgerError) -> None:
        now = asyncio.get_running_loop().time()
        self._is_linked = False
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at > self._outage:
            self._end_all(error)

    def _epoch_changed(self, before: str, now: str) -> None:
        self._end_all(EpochChanged(before, now))

    def _end_all(self, reason: Refused) -> None:
        _end(self._all(), reason)
        self.feed.end_all(reason)

    @property
    def _is_watched(self) -> bool:
        return bool(self._inboxes) or self.feed.watchers > 0

    def _all(self) -> list[Inbox]:
        return [inbox for inboxes in self._inboxes.values() for inbox in inboxes]


def make_fact(record: EventRecord, task_id: str, *, epoch: str) -> Fact:
    """Return a stored fact as its watchers get it."""
    event = fact_to_proto(record, task_id=task_id, epoch=epoch)
    return Fact(
        sequence=record.sequence,
        attempt=record.attempt_started.attempt,
        is_final=record.WhichOneof("fact") in _FINAL,
        payload=WatchTaskResponse(event=event).SerializeToString(),
    )


def _end(inboxes: Iterable[Inbox], reason: Refused) -> None:
    for inbox in inboxes:
        inbox.end(reason)
