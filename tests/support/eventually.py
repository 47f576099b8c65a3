"""Waiting for what announces itself by no event."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

Found = TypeVar("Found")

#: Long enough for a busy machine; a test that waits for it has failed.
PATIENCE: Final = timedelta(seconds=30)
_PAUSE: Final = timedelta(milliseconds=10)


async def eventually(
    look: Callable[[], Awaitable[Found]],
    *,
    within: timedelta = PATIENCE,
    pause: timedelta = _PAUSE,
) -> Found:
    """Look again and again until what is seen is true; raises TimeoutError when it never is."""
    async with asyncio.timeout(within.total_seconds()):
        while not (found := await look()):  # noqa: ASYNC110  # for what has no event
            await asyncio.sleep(pause.total_seconds())
    return found
