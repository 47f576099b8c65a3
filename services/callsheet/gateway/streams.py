"""Streams of answers: counted while they are open, kept alive, and ended when the gateway ends."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from callsheet.gateway.limits import StreamLimit

Item = TypeVar("Item")

#: How long a stream is silent before it says that it is still there: proxies cut idle ones.
HEARTBEAT: Final = timedelta(seconds=15)


class CountedStream(StreamingResponse):
    """An answer in pieces, which counts as an open stream of its caller until it ends.

    It is refused with 429, before anything was sent, when the caller has too many.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        *,
        limit: StreamLimit,
        caller: str,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__(content, headers=headers, media_type=media_type)
        self._content = content
        self._limit = limit
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces as they come; where they come from is told when nobody listens."""
        with self._limit.opened(self._caller):
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._content.aclose()


async def beating(
    items: AsyncGenerator[Item, None], *, stopping: asyncio.Event, heartbeat: timedelta
) -> AsyncGenerator[Item | None, None]:
    """Yield the items as they come, and None when none came for a while; end when told to stop.

    The items' generator is closed at the end, whatever the end is.
    """
    told = asyncio.ensure_future(stopping.wait())
    coming: asyncio.Task[Item] | None = None
    try:
        while not told.done():
            coming = asyncio.ensure_future(_next(items)) if coming is None else coming
            await asyncio.wait(
                {coming, told},
                timeout=heartbeat.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not coming.done():
                if not told.done():
                    yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield item
    finally:
        told.cancel()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming
        await items.aclose()


async def _next(items: AsyncGenerator[Item, None]) -> Item:
    return await anext(items)
