"""Group commit: what waits goes together, so that one fsync serves many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from callsheet.ledger.errors import LedgerBusy

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Answer:
        """Send the item with whatever else waits; return its answer.

        Raises:
            LedgerBusy: too many items wait already.
        """
        return await self._enqueue(item)

    async def put_all(self, items: Sequence[Item]) -> list[Answer]:
        """Send the items in order; return their answers."""
        if len(self._waiting) + len(items) > self._most_waiting:
            raise LedgerBusy(len(self._waiting))
        return list(await asyncio.gather(*[self._enqueue(item) for item in items]))

    def _enqueue(self, item: Item) -> asyncio.Future[Answer]:
        if len(self._waiting) >= self._most_waiting:
            raise LedgerBusy(len(self._waiting))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        while batch := self._next():
            try:
                answers = await self._send([item for item, _ in batch])
            except BaseException as error:
                _settle(batch, error)
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                # A caller that went away no longer listens; its write stands all the same.
                if not future.done():
                    future.set_result(answer)

    def _next(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < self._batch:
            item, future = self._waiting.popleft()
            # A caller whose deadline passed while its item waited wants no effect any more.
            if not future.done():
                batch.append((item, future))
        return batch


def _settle(batch: Sequence[tuple[Item, asyncio.Future[Answer]]], error: BaseException) -> None:
    for _, future in batch:
        if future.done():
            continue
        if isinstance(error, Exception):
            future.set_exception(error)
        else:
            future.cancel()
