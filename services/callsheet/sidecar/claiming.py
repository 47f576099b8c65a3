"""The loop of whoever claims durable work: look, claim, wait for the next look."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.errors import LedgerError
from callsheet.sidecar.pausing import set_within

_PAUSE: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


async def claim_until(
    stop: asyncio.Event,
    *,
    claim: Callable[[], Awaitable[timedelta]],
    look: asyncio.Event,
    in_flight: set[asyncio.Task[None]],
    interrupted: str,
    ending: str,
) -> None:
    """Claim until told to stop, and then end what is in flight; cancelled, cancel it too.

    *claim* claims what there is room for, and answers how long to wait before the next look;
    *look*, once set, ends that wait. *interrupted* and *ending* are its log events.
    """
    stopping = asyncio.create_task(_set_after(stop, look))
    try:
        while not stop.is_set():
            look.clear()
            try:
                wait = await claim()
            except LedgerError as error:
                _log.warning(interrupted, reason=str(error))
                await set_within(stop, _PAUSE)
            else:
                await set_within(look, wait)
        await _ended(in_flight, ending)
    finally:
        stopping.cancel()
        for each in in_flight:
            each.cancel()
        await _ended(in_flight, ending)


async def _set_after(stop: asyncio.Event, look: asyncio.Event) -> None:
    await stop.wait()
    look.set()


async def _ended(in_flight: set[asyncio.Task[None]], ending: str) -> None:
    if in_flight:
        _log.info(ending, count=len(in_flight))
        await asyncio.wait(in_flight)
