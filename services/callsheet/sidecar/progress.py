"""The progress of running tasks whose callbacks ask for it: the newest, once a second."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_signal
from callsheet.ledger.deliveries import Deliveries, NewDelivery
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.index import Keys, parse_lease
from callsheet.ledger.store import Store
from callsheet.sidecar.wishes import FINAL_EVENTS, PROGRESS, Wish, Wishes

#: How often progress is looked at, in seconds: a task is told of no more often.
PERIOD: Final = 1.0
#: Running tasks whose progress is told; of further ones only their other events.
_MOST: Final = 10_000
_READ_TOGETHER: Final = 256

#: What each fact says of whether an attempt runs then; other facts say nothing.
_RUNS: Final[Mapping[str, bool]] = MappingProxyType(
    {"attempt_started": True, "attempt_failed": False, "attempt_returned": False}
    | dict.fromkeys(FINAL_EVENTS, False)
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class RunningProgress:
    """Knows which tasks run whose progress is wanted, and reads it.

    The worker keeps the newest progress with its task once a second: that is read, and no stream of
    signals, so that nothing is lost with a link, and who wants no progress costs nothing.
    """

    def __init__(
        self, store: Store, deliveries: Deliveries, keys: Keys, *, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._keys = keys
        self._clock = clock
        #: By task: the attempt that runs, and what its callback asks for.
        self._running: dict[str, tuple[int, Wish]] = {}
        self._told: dict[str, int] = {}
        self._look_at = 0.0

    @property
    def rest(self) -> float | None:
        """How many seconds until the next look; None: nothing runs."""
        return max(0.0, self._look_at - self._clock()) if self._running else None

    async def begin(self, wishes: Wishes) -> None:
        """Find what runs now: a tailer before this one may have read how it started."""
        self._running.clear()
        self._told.clear()
        leases = await self._store.members(self._keys.leases, limit=_MOST)
        attempts = [parse_lease(lease) for lease, _ in leases]
        await wishes.learn(task_id for task_id, _ in attempts)
        for task_id, attempt in attempts:
            self._start(task_id, attempt, wishes.of(task_id))

    def note(self, task_id: str, event: EventRecord, wish: Wish) -> None:
        """Learn from a fact whether the task runs."""
        runs = _RUNS.get(event.WhichOneof("fact") or "")
        if runs:
            self._start(task_id, event.attempt_started.attempt, wish)
        elif runs is False:
            self._running.pop(task_id, None)
            self._told.pop(task_id, None)

    def told(self, delivery: NewDelivery) -> bool:
        """Whether the progress may be told now: the task still runs. Then it counts as told."""
        if delivery.task_id not in self._running or delivery.signal is None:
            return False
        self._told[delivery.task_id] = delivery.signal.time
        return True

    async def newest(self) -> list[NewDelivery]:
        """Return the progress that is new since it was told, if it is time to look."""
        if not self._running or self._clock() < self._look_at:
            return []
        self._look_at = self._clock() + PERIOD
        running = list(self._running.items())
        found: list[NewDelivery] = []
        for start in range(0, len(running), _READ_TOGETHER):
            chunk = running[start : start + _READ_TOGETHER]
            signals = await self._deliveries.progress([task_id for task_id, _ in chunk])
            for (task_id, (attempt, wish)), content in zip(chunk, signals, strict=True):
                if content and (new := self._delivery(task_id, attempt, wish, content)):
                    found.append(new)
        return found

    def _start(self, task_id: str, attempt: int, wish: Wish | None) -> None:
        if wish is not None and wish.wants_progress and len(self._running) < _MOST:
            self._running[task_id] = (attempt, wish)

    def _delivery(
        self, task_id: str, attempt: int, wish: Wish, content: bytes
    ) -> NewDelivery | None:
        try:
            signal = parse_signal(content)
        except UnknownVersion as error:
            _log.warning("signal_dropped", task_id=task_id, reason=str(error))
            return None
        # What an earlier attempt left behind says nothing of this one.
        if signal.attempt != attempt or signal.time <= self._told.get(task_id, 0):
            return None
        return NewDelivery(
            task_id=task_id,
            task_create_time=wish.create_time,
            project=wish.project,
            sequence=signal.sequence,
            url=wish.url,
            line=wish.line,
            event=PROGRESS,
            must_arrive=False,
            signal=signal,
        )
