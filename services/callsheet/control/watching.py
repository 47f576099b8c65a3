"""Watching a task: every fact after a sequence, in order and without gaps, and its signals."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta

from callsheet.control.convert import signal_to_proto
from callsheet.control.hub import OUTAGE, PAUSE, Hub, make_fact
from callsheet.control.inbox import Fact, Inbox
from callsheet.control.pulse import Pulse
from callsheet.ledger.access import Principal
from callsheet.ledger.codec import parse_event
from callsheet.ledger.errors import EpochChanged, LedgerUnavailable
from callsheet.ledger.ledger import FACTS, Ledger, Reading
from callsheet.v1.task_service_pb2 import WatchTaskResponse


class Watching:
    """Serves watchers from the store and the hub."""

    def __init__(self, ledger: Ledger, hub: Hub, pulse: Pulse) -> None:
        self._ledger = ledger
        self._hub = hub
        self._pulse = pulse

    async def events(
        self, principal: Principal, task_id: str, *, after: int, epoch: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield serialised WatchTaskResponses; ends after the final fact.

        Raises:
            TaskNotFound: the principal has no such task.
            SequenceAhead: the task has no such sequence yet.
            EpochChanged: the epoch is, or has become, another one.
            LedgerUnavailable: the ledger has been away for 30 seconds.
            ShuttingDown: this server is about to end.
        """
        await self._check_epoch(epoch)
        with self._hub.subscribe(task_id) as inbox:
            # From here on a linked inbox misses nothing: what is read now is all there was before.
            is_fed = inbox.catch_up()
            found = await self._ledger.watchable(principal, task_id, after=after)
            watcher = _Watcher(self._ledger, self._pulse, inbox, found.reading, after=after)
            if is_fed and found.facts is not None:
                for event in watcher.told(found.facts):
                    yield event
            elif is_fed:
                inbox.fall_behind()
            async with aclosing(watcher.events()) as events:
                async for event in events:
                    yield event

    async def final(self, principal: Principal, task_id: str, *, timeout: timedelta) -> Reading:
        """Return the task when it is final, or as it is after the timeout. Raises as events."""
        reading = await self._ledger.get(principal, task_id)
        if reading.task.is_final:
            return reading
        # When the time is over, the task is answered as it is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                after = reading.task.sequence
                await _exhaust(self.events(principal, task_id, after=after, epoch=""))
        return await self._ledger.get(principal, task_id)

    async def _check_epoch(self, remembered: str) -> None:
        if remembered and remembered != self._pulse.epoch:
            current = await self._pulse.look()
            if remembered != current:
                raise EpochChanged(remembered, current)


class _Watcher:
    """One reader of one task: what it has seen, and what comes next."""

    def __init__(
        self, ledger: Ledger, pulse: Pulse, inbox: Inbox, reading: Reading, *, after: int
    ) -> None:
        self._ledger = ledger
        self._pulse = pulse
        self._inbox = inbox
        self._task = reading.task
        self._progress = reading.progress
        self._seen = after
        self._attempt = 0
        self._is_over = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield what the watcher has not seen, as it comes."""
        while not self._is_over:
            await self._inbox.filled()
            if self._inbox.catch_up():
                async with aclosing(self._stored()) as stored:
                    async for payload in stored:
                        yield payload
            for payload in self._live():
                yield payload

    def told(self, contents: Sequence[bytes]) -> Iterator[bytes]:
        """Yield all facts there are after what the watcher has seen, and the latest progress."""
        for content in contents:
            yield self._told(content)
        yield from self._caught_up()

    async def _stored(self) -> AsyncGenerator[bytes, None]:
        """Yield the facts that the store has and the watcher has not seen."""
        more = True
        while more:
            contents = await self._facts()
            more = len(contents) == FACTS
            for content in contents:
                yield self._told(content)
        for event in self._caught_up():
            yield event

    def _told(self, content: bytes) -> bytes:
        fact = make_fact(parse_event(content), self._task.id, epoch=self._pulse.epoch)
        self._note(fact)
        return fact.payload

    def _caught_up(self) -> Iterator[bytes]:
        self._is_over = self._is_over or self._task.is_final
        if not self._is_over and (latest := self._latest()):
            yield latest

    def _live(self) -> Iterator[bytes]:
        """Yield what has come in since; a gap means that the store must be read again."""
        while not self._is_over and (fact := self._inbox.take()) is not None:
            if fact.sequence == self._seen + 1:
                # The last progress comes before the end that it led to.
                if fact.is_final and (signal := self._newest()) is not None:
                    yield signal
                self._note(fact)
                yield fact.payload
            elif fact.sequence > self._seen:
                self._inbox.fall_behind()
        if not self._is_over and (signal := self._newest()) is not None:
            yield signal

    def _newest(self) -> bytes | None:
        """Return the newest progress that waits, unless an older attempt reported it."""
        signal = self._inbox.take_signal(up_to=self._seen)
        return signal.payload if signal is not None and signal.attempt >= self._attempt else None

    async def _facts(self) -> list[bytes]:
        """Read on from what was seen; a ledger that is away is waited for."""
        try:
            async with asyncio.timeout(OUTAGE.total_seconds()):
                while True:
                    try:
                        return await self._ledger.facts(self._task.id, after=self._seen)
                    except LedgerUnavailable:
                        await asyncio.sleep(PAUSE.total_seconds())
        except TimeoutError as error:
            raise LedgerUnavailable("no answer while a watcher waited") from error

    def _note(self, fact: Fact) -> None:
        self._seen = fact.sequence
        self._attempt = max(self._attempt, fact.attempt)
        self._is_over = self._is_over or fact.is_final

    def _latest(self) -> bytes | None:
        """Return the newest progress for one who comes late; once, and not of an older attempt."""
        progress, self._progress = self._progress, None
        if progress is None or self._attempt > self._task.attempt:
            return None
        event = signal_to_proto(
            progress, task_id=self._task.id, epoch=self._pulse.epoch, sequence=self._seen
        )
        return WatchTaskResponse(event=event).SerializeToString()


async def _exhaust(events: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass
