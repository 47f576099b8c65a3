"""What a duty is, and how it is done again and again."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol, cast

import structlog

from callsheet.ledger.errors import LedgerUnavailable

#: How long a duty rests after the ledger did not answer.
UNAVAILABLE_REST: Final = timedelta(milliseconds=500)
#: How long a duty rests after it failed for a reason of its own.
FAILED_REST: Final = timedelta(seconds=5)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Duty(Protocol):
    """One thing that upkeep does."""

    @property
    def name(self) -> str:
        """What logs call it."""
        ...

    async def run_once(self) -> timedelta:
        """Do what is due now; return how long the duty may rest."""
        ...


async def do_until(
    ended: asyncio.Event, duty: Duty, *, on_unavailable: Callable[[LedgerUnavailable], None]
) -> None:
    """Do the duty until *ended*; whatever fails is told, and tried again after a rest."""
    while not ended.is_set():
        try:
            rest = await duty.run_once()
        except LedgerUnavailable as error:
            on_unavailable(error)
            rest = UNAVAILABLE_REST
        except Exception:  # noqa: BLE001  # one duty's fault must not end the others
            _log.exception("duty_failed", duty=duty.name)
            rest = FAILED_REST
        await ended_within(ended, rest)


async def ended_within(ended: asyncio.Event, length: timedelta) -> bool:
    """Wait for that long, or until *ended*; return whether it was."""
    try:
        async with asyncio.timeout(length.total_seconds()):
            await ended.wait()
    except TimeoutError:
        return False
    return True
