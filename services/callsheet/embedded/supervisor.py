"""The supervisor: keeps the processes of one machine running, and stops them in order."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from callsheet.embedded.backoff import Backoff
from callsheet.embedded.child import Child, ChildPlan, ChildReport, ChildStatus
from callsheet.embedded.log_file import cap

_LOG_CHECK_INTERVAL: Final = timedelta(seconds=10)


class Supervisor:
    """Holds the children by name; *report* hears each fact of theirs as it happens."""

    def __init__(
        self,
        *,
        report: Callable[[ChildReport], None],
        backoff: Backoff | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._report = report
        self._backoff = backoff or Backoff()
        self._chance = chance or secrets.SystemRandom().random
        self._children: dict[str, Child] = {}
        self._log_watch = asyncio.create_task(self._watch_logs(), name="log watch")

    def start(self, plan: ChildPlan) -> Child:
        """Start a process and keep it running; its name must be new."""
        if plan.name in self._children:
            raise ValueError(f"{plan.name} is supervised already")
        child = Child(plan, backoff=self._backoff, chance=self._chance, report=self._report)
        self._children[plan.name] = child
        return child

    @property
    def statuses(self) -> tuple[ChildStatus, ...]:
        """How every process is now, in the order in which they were started."""
        return tuple(child.status for child in self._children.values())

    async def stop(self, order: Sequence[str]) -> None:
        """Stop the processes one after the other in *order*, then any that it leaves out.

        Each is ended, drained or killed, before the next one hears of it.
        """
        last = [name for name in self._children if name not in order]
        for name in (*order, *last):
            if (child := self._children.pop(name, None)) is not None:
                await child.stop()
        self._log_watch.cancel()
        await asyncio.wait({self._log_watch})

    async def _watch_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_INTERVAL.total_seconds())
            for child in self._children.values():
                await asyncio.to_thread(cap, child.plan.log)
