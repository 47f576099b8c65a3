"""The loop of upkeep: whoever has the role does all duties, everybody else stands by."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.registry import Registry
from callsheet.upkeep.duty import Duty, do_until, ended_within

ROLE: Final = "upkeep"
#: How long the role stays with a holder that was not heard of.
HOLD: Final = timedelta(seconds=6)
#: How often those who stand by ask for the role.
STAND_BY: Final = timedelta(milliseconds=500)
_RELEASE_TIMEOUT: Final = timedelta(seconds=2)
_END_TIMEOUT: Final = timedelta(seconds=1)
_CANCELLATIONS: Final = 3

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Upkeep:
    """Does the duties while it holds the role; *on_interruption* hears when the ledger is away."""

    def __init__(
        self,
        registry: Registry,
        duties: Sequence[Duty],
        *,
        holder: str,
        on_interruption: Callable[[], None],
        hold: timedelta = HOLD,
        stand_by: timedelta = STAND_BY,
    ) -> None:
        self._registry = registry
        self._duties = duties
        self._holder = holder
        self._on_interruption = on_interruption
        self._hold = hold
        self._stand_by = stand_by
        self._is_away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Do the duties, or stand by, until told to stop; then give the role up."""
        while not stop.is_set():
            if await self._take():
                await self._serve(stop)
            await ended_within(stop, self._stand_by)

    async def _serve(self, stop: asyncio.Event) -> None:
        _log.info("upkeep_role_taken", holder=self._holder)
        # What happened to the ledger while somebody else had the role is not known here.
        self._on_interruption()
        ended = asyncio.Event()
        running = {
            asyncio.create_task(
                do_until(ended, duty, on_unavailable=self._interrupted), name=duty.name
            )
            for duty in self._duties
        }
        try:
            await self._keep_role(stop)
        finally:
            ended.set()
            await _end(running)
        await self._release()

    async def _keep_role(self, stop: asyncio.Event) -> None:
        """Renew the role; return when told to stop, or when it is lost or may be."""
        clock = asyncio.get_running_loop().time
        lost_at = clock() + self._hold.total_seconds()
        while not stop.is_set() and clock() < lost_at:
            asked_at = clock()
            try:
                if not await self._registry.hold(ROLE, self._holder, duration=self._hold):
                    break
                lost_at = asked_at + self._hold.total_seconds()
                self._resumed()
            except LedgerUnavailable as error:
                self._interrupted(error)
            await ended_within(stop, self._hold / 4)
        if not stop.is_set():
            _log.warning("upkeep_role_lost", holder=self._holder)

    async def _take(self) -> bool:
        try:
            taken = await self._registry.hold(ROLE, self._holder, duration=self._hold)
        except LedgerUnavailable as error:
            self._interrupted(error)
            return False
        self._resumed()
        return taken

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT.total_seconds()):
                await self._registry.release(ROLE, self._holder)
        except (LedgerUnavailable, TimeoutError) as error:
            _log.info("upkeep_role_left_to_expire", reason=str(error))

    def _interrupted(self, error: LedgerUnavailable) -> None:
        self._on_interruption()
        if not self._is_away:
            _log.warning("ledger_unavailable", reason=error.reason)
        self._is_away = True

    def _resumed(self) -> None:
        if self._is_away:
            _log.info("ledger_available")
        self._is_away = False


async def _end(running: set[asyncio.Task[None]]) -> None:
    """Let tasks end by themselves for a moment, then cancel them.

    More than once, because a wait_for inside of redis-py may swallow a cancellation; the task then
    ends by the event that it looks at.
    """
    _, late = await asyncio.wait(running, timeout=_END_TIMEOUT.total_seconds())
    for _ in range(_CANCELLATIONS):
        if not late:
            return
        for each in late:
            each.cancel()
        _, late = await asyncio.wait(late, timeout=_END_TIMEOUT.total_seconds())
    _log.error("duties_left_running", duties=sorted(each.get_name() for each in late))
