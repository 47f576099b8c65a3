"""Watching many tasks of a project: those there are, then every fact in the order of the log."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Final

from callsheet.control.convert import task_to_proto
from callsheet.control.feed import Feed
from callsheet.control.feed_inbox import FeedFact, FeedInbox
from callsheet.control.hub import OUTAGE, PAUSE, Hub
from callsheet.control.pulse import Pulse
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import EpochChanged, InvalidField, LedgerUnavailable
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.log import Log, LogEntry
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.position import Position
from callsheet.ledger.snapshots import WatchFilter
from callsheet.v1.task_service_pb2 import SnapshotEnd, WatchTasksResponse

#: A watcher whom nothing concerned is told this often how far the log has come without it.
IDLE: Final = timedelta(seconds=5)
#: Entries of the log that a watcher who is behind reads at once.
_READ_ENTRIES: Final = 512


class WatchingMany:
    """Serves watchers of many tasks from the indexes, the log and the hub."""

    def __init__(
        self, ledger: Ledger, log: Log, hub: Hub, pulse: Pulse, *, idle: timedelta = IDLE
    ) -> None:
        self._ledger = ledger
        self._log = log
        self._hub = hub
        self._pulse = pulse
        self._idle = idle

    async def responses(
        self, principal: Principal, wanted: WatchFilter, *, cursor: str, snapshot_size: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield serialised WatchTasksResponses, for ever.

        Raises:
            ProjectNotFound: the principal has no such project.
            InvalidField: the cursor is none.
            EpochChanged: the epoch is, or has become, another one than the cursor's.
            CursorLost: the log no longer holds what follows the cursor.
            WatchersFull: this server takes no more watchers.
            ProjectWatchersFull: it takes no more of this project.
            LedgerUnavailable: the ledger has been away for 30 seconds.
            ShuttingDown: this server is about to end.
        """
        watched = self._ledger.watched(principal, wanted)
        begins = None if not cursor else await self._position(cursor)
        with self._hub.subscribe_many(watched) as inbox:
            inbox.check()
            reader = _Reader(self._log, self._hub.feed, inbox, idle=self._idle)
            if begins is None:
                # The position comes first: what happens while the tasks are read is told after it.
                await self._pulse.look()
                begins = Position.parse(await self._log.end())
                async with aclosing(self._snapshot(reader, watched, snapshot_size)) as tasks:
                    async for payload in tasks:
                        yield payload
                yield reader.snapshot_end(begins)
            async with aclosing(reader.responses(begins)) as responses:
                async for payload in responses:
                    yield payload

    async def _snapshot(
        self, reader: "_Reader", watched: WatchFilter, size: int
    ) -> AsyncGenerator[bytes, None]:
        snapshot = self._ledger.snapshot(watched, size=size)
        async with aclosing(snapshot.readings()) as readings:
            async for reading in readings:
                task = reading.task
                reader.told[task.id] = task.sequence
                shown = task_to_proto(task, epoch=self._pulse.epoch, progress=reading.progress)
                yield WatchTasksResponse(snapshot=shown).SerializeToString()
        reader.has_more = snapshot.has_more

    async def _position(self, cursor: str) -> Position:
        epoch, _, text = cursor.partition(":")
        try:
            position = Position.parse(text)
        except ValueError:
            problem = "is not the cursor of a watch of many tasks"
            raise InvalidField((("cursor", problem),)) from None
        if epoch != self._pulse.epoch and epoch != await self._pulse.look():
            raise EpochChanged(epoch, self._pulse.epoch)
        return position


class _Reader:
    """One watcher: how far it has come, and what comes next."""

    def __init__(self, log: Log, feed: Feed, inbox: FeedInbox, *, idle: timedelta) -> None:
        self._log = log
        self._feed = feed
        self._inbox = inbox
        self._idle = idle.total_seconds()
        self._position = Position(0, 0)
        self._told_position = Position(0, 0)
        #: The sequences that the snapshot told, until a newer fact was.
        self.told: dict[str, int] = {}
        self.has_more = False

    def snapshot_end(self, position: Position) -> bytes:
        """Return what ends the snapshot; from now on, facts after the position are told."""
        end = SnapshotEnd(has_more=self.has_more)
        cursor = self._feed.cursor(position)
        return WatchTasksResponse(snapshot_end=end, cursor=cursor).SerializeToString()

    async def responses(self, begins: Position) -> AsyncGenerator[bytes, None]:
        """Yield what comes after the position, as it comes."""
        self._position = self._told_position = begins
        while True:
            self._inbox.check()
            if self._inbox.catch_up():
                async with aclosing(self._logged()) as logged:
                    async for payload in logged:
                        yield payload
            for payload in self._live():
                yield payload
            if not await self._filled() and self._told_position < self._position:
                self._told_position = self._position
                cursor = self._feed.cursor(self._position)
                yield WatchTasksResponse(cursor=cursor).SerializeToString()

    async def _filled(self) -> bool:
        """Wait for something to take; False: there was nothing for a while."""
        try:
            async with asyncio.timeout(self._idle):
                await self._inbox.filled()
        except TimeoutError:
            return False
        return True

    async def _logged(self) -> AsyncGenerator[bytes, None]:
        """Yield what the log has that the watcher has not seen."""
        while entries := await self._entries():
            for position, fact in await self._feed.facts(self._inbox.wanted, entries):
                self._position = position
                for payload in self._told(fact) if fact is not None else ():
                    yield payload
            self._position = Position.parse(entries[-1].position)

    async def _entries(self) -> list[LogEntry]:
        """Read on from what was seen; a ledger that is away is waited for."""
        place = str(self._position)
        try:
            async with asyncio.timeout(OUTAGE.total_seconds()):
                while True:
                    try:
                        return await self._log.after(place, limit=_READ_ENTRIES, timeout=NO_TIME)
                    except LedgerUnavailable:
                        await asyncio.sleep(PAUSE.total_seconds())
        except TimeoutError as error:
            raise LedgerUnavailable("no answer while a watcher waited") from error

    def _live(self) -> Iterator[bytes]:
        """Yield what has come in since: facts in their order, then the newest signals."""
        while (fact := self._inbox.take()) is not None:
            if fact.position > self._position:  # others were read from the log meanwhile
                self._position = fact.position
                yield from self._told(fact)
        if self._inbox.is_level:
            # What the hub told meanwhile, and is not here, did not fit.
            self._position = max(self._position, self._feed.position)
            for signal in self._inbox.take_signals():
                yield signal.payload

    def _told(self, fact: FeedFact) -> Iterator[bytes]:
        """Yield a fact, unless the snapshot held it already."""
        if fact.sequence <= self.told.get(fact.task_id, 0):
            return
        self.told.pop(fact.task_id, None)
        self._told_position = fact.position
        if fact.attempt:
            self._inbox.drop_signal(fact.task_id, before=fact.attempt)
        # The last progress comes before the end that it led to.
        if fact.is_final and (signal := self._inbox.take_signal(fact.task_id)) is not None:
            yield signal.payload
        yield fact.payload
