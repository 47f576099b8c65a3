"""Group commit: what waits goes together, so that one fsync serves many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from callsheet.ledger.errors import LedgerBusy

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Waiting(Generic[Item, Answer]):
    """What one caller put, how far it is sent, and its answers so far."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.sent = 0
        self.answers: list[Answer] = []
        self.future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()

    def answer(self, answers: Sequence[Answer]) -> None:
        self.answers += answers
        # A caller that went away no longer listens; its writes stand all the same.
        if len(self.answers) == len(self.items) and not self.future.done():
            self.future.set_result(self.answers)

    def fail(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, Exception):
            self.future.set_exception(error)
        else:
            self.future.cancel()


class _Part(NamedTuple, Generic[Item, Answer]):
    """The share that one caller has of a batch."""

    waiting: _Waiting[Item, Answer]
    size: int


class CommitLane(Generic[Item, Answer]):
    """Sends items in batches, one batch at a time, in the order in which they came."""

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        batch: int = 128,
        waiting: int = 20_000,
    ) -> None:
        self._send = send
        self._batch = batch
        self._most_waiting = waiting
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._count = 0
        self._sender: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Answer:
        """Send the item with whatever else waits; return its answer.

        Raises:
            LedgerBusy: too many items wait already.
        """
        return (await self.put_all((item,)))[0]

    async def put_all(self, items: Sequence[Item]) -> list[Answer]:
        """Send the items in order; return their answers.

        The first error is raised; what was not sent by then has no effect. Raises LedgerBusy.
        """
        if not items:
            return []
        if self._count + len(items) > self._most_waiting:
            raise LedgerBusy(self._count)
        waiting: _Waiting[Item, Answer] = _Waiting(items)
        self._waiting.append(waiting)
        self._count += len(items)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._run())
        return await waiting.future

    async def _run(self) -> None:
        while parts := self._next():
            batch = [
                item
                for waiting, size in parts
                for item in waiting.items[waiting.sent - size : waiting.sent]
            ]
            try:
                answers = await self._send(batch)
            except BaseException as error:
                for waiting, _ in parts:
                    waiting.fail(error)
                if not isinstance(error, Exception):
                    raise
                continue
            start = 0
            for waiting, size in parts:
                waiting.answer(answers[start : start + size])
                start += size

    def _next(self) -> list[_Part[Item, Answer]]:
        """Take what goes into the next batch."""
        parts: list[_Part[Item, Answer]] = []
        room = self._batch
        while self._waiting and room:
            waiting = self._waiting[0]
            left = len(waiting.items) - waiting.sent
            # A caller whose deadline passed while its items waited wants no effect any more.
            count = 0 if waiting.future.done() else min(left, room)
            if count:
                waiting.sent += count
                room -= count
                parts.append(_Part(waiting, count))
            if count in (0, left):
                self._waiting.popleft()
                self._count -= left
            else:
                self._count -= count
        return parts
