"""The worker whole: claimers, Dramatiq's threads, runners, leases, and an orderly end."""

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import dramatiq
import structlog

from callsheet.broker.broker import LedgerBroker
from callsheet.broker.chooser import ChoiceRules, Chooser
from callsheet.broker.claimer import Claimer
from callsheet.broker.feed import QUEUE, Feed
from callsheet.broker.gate import Gate
from callsheet.broker.out_of_memory import LeftToOthers
from callsheet.broker.slots import Slots
from callsheet.broker.task_actors import declare_actors
from callsheet.internal.v1.pipe_pb2 import DeviceReport
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import ResourceClass, TaskType
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.messages import timestamp
from callsheet.ledger.model import Task
from callsheet.ledger.registry import Registry, Wish
from callsheet.ledger.store import Candidate, Store
from callsheet.v1.operations_service_pb2 import WorkerDevice
from callsheet.worker.context_source import ContextSource
from callsheet.worker.lease_keeper import LeaseKeeper
from callsheet.worker.ledger_clock import LedgerClock
from callsheet.worker.performer import WITHOUT_RUNNER, Performer
from callsheet.worker.presence import Presence, WaitingCounts
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.running import Batch, Running, RunningAttempts, StopCause

#: How often Dramatiq's threads look whether they are to stop.
_THREAD_TIMEOUT: Final = timedelta(milliseconds=500)
#: What killing runners and recording hand-backs may take beyond a grace period.
_LAST_WORDS: Final = timedelta(seconds=2)
_CANCEL_AGAIN: Final = timedelta(milliseconds=200)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Shape:
    """What a worker is made of."""

    queues: Mapping[ResourceClass, tuple[str, ...]]
    slots: Mapping[ResourceClass, Slots]
    hosts: Mapping[ResourceClass, Sequence[RunnerHost]]
    device: str
    memory_limit_bytes: int | None
    drain_timeout: timedelta
    choice: ChoiceRules


class LedgerWorker:
    """Claims and runs attempts until told to stop. Lives on one loop, in the main thread."""

    def __init__(
        self,
        attempts: Attempts,
        store: Store,
        registry: Registry,
        *,
        catalog: Mapping[str, TaskType],
        shape: Shape,
        clock: LedgerClock,
        context_source: ContextSource | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._catalog = catalog
        self._shape = shape
        self._clock = clock
        self._attempts = attempts
        self._running = RunningAttempts()
        self._returning: set[asyncio.Task[None]] = set()
        self._gate = Gate()
        self._is_ending = False
        self._drain_asked = asyncio.Event()
        wished = asyncio.Event()
        self._keeper = LeaseKeeper(attempts, store, self._running, wished=wished)
        self._performer = Performer(
            attempts,
            self._running,
            self._keeper,
            shape.hosts,
            memory_limit_bytes=shape.memory_limit_bytes,
            now=clock.now,
            loop=self._loop,
            context_source=context_source,
        )
        self._feed = Feed(unused=self._unused)
        broker = LedgerBroker(self._feed)
        declare_actors(broker, catalog, self._performer.perform)
        threads = sum(
            slots.total * (shape.choice.bucket if kind is ResourceClass.DEVICE else 1)
            for kind, slots in shape.slots.items()
        )
        timeout = _THREAD_TIMEOUT // timedelta(milliseconds=1)
        self._threads = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=timeout)
        self._chooser = Chooser(
            attempts,
            shape.choice,
            warm=self._warm_models,
            leaves=LeftToOthers(KnownWorkers(registry), worker=attempts.worker, now=clock.now),
        )
        self._batched_count = 0
        self._claimers = [
            self._claimer(kind, queues, store=store) for kind, queues in shape.queues.items()
        ]
        self.presence = Presence(
            registry,
            attempts.worker,
            queues=tuple(queue for queues in shape.queues.values() for queue in queues),
            device=shape.device,
            slots=shape.slots,
            running=self._running,
            start_time=clock.now(),
            wished=wished,
            on_wish=self._wished,
            devices=self._devices,
            counts=self._counts,
        )

    def _claimer(self, kind: ResourceClass, queues: tuple[str, ...], *, store: Store) -> Claimer:
        on_device = kind is ResourceClass.DEVICE
        slots = self._shape.slots[kind]
        return Claimer(
            self._attempts,
            store,
            slots,
            queues=queues,
            device=self._shape.device if on_device else "",
            deliver=partial(self._deliver_together if on_device else self._deliver, slots),
            shuffle=_shuffled,
            gate=self._gate,
            chooser=self._chooser if on_device else None,
            # Elsewhere it matters more which task is next than a millisecond.
            offers_itself=kind is ResourceClass.WORKER,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set or it was drained, then finish or hand back what runs."""
        await self.presence.tell()
        self._threads.start()
        self._feed.shorten(self._threads.consumers[QUEUE].handle_message)
        keeping = [
            asyncio.create_task(self._keeper.renew_until_cancelled()),
            asyncio.create_task(self._keeper.listen_until_cancelled()),
            asyncio.create_task(self.presence.tell_until_cancelled()),
        ]
        claiming = [asyncio.create_task(claimer.run()) for claimer in self._claimers]
        try:
            await self._until(stop, [*keeping, *claiming])
        finally:
            await _cancelled(claiming)
            await self._drain()
            await _cancelled(keeping)
            # A registry that is away forgets the worker by itself.
            with suppress(TimeoutError, LedgerError):
                async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                    await self.presence.end()

    async def _until(self, stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
        ends = {asyncio.create_task(stop.wait()), asyncio.create_task(self._drained())}
        done, _ = await asyncio.wait([*ends, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        for task in done - ends:
            task.result()  # none of them ends by itself: this raises what ended it

    async def _drained(self) -> None:
        """Return when nothing runs any more, while operators wish the worker drained."""
        while True:
            await self._drain_asked.wait()
            await self._running.none_left()
            # A wish that was taken back meanwhile is waited for anew.
            if self._drain_asked.is_set():
                return

    def _wished(self, wish: Wish | None) -> None:
        """Do what operators wish; a worker that ends already goes on ending."""
        if self._is_ending:
            return
        self.presence.paused = wish is Wish.PAUSE
        self.presence.draining = wish is Wish.DRAIN
        if wish is None:
            self._gate.open()
        else:
            self._gate.shut()
        if wish is Wish.DRAIN:
            self._drain_asked.set()
        else:
            self._drain_asked.clear()

    def _counts(self) -> WaitingCounts:
        return WaitingCounts(batched=self._batched_count, overtaken=self._chooser.overtaken_count)

    def _warm_models(self) -> frozenset[str]:
        """The models that the device's runner keeps loaded, as it said last."""
        hosts = self._shape.hosts.get(ResourceClass.DEVICE, ())
        reports = (host.report for host in hosts)
        return frozenset(
            name for report in reports if report is not None for name in report[0].loaded_models
        )

    def _devices(self) -> list[WorkerDevice]:
        hosts = [host for of_class in self._shape.hosts.values() for host in of_class]
        return [self._described(host) for host in hosts if host.report is not None]

    def _described(self, host: RunnerHost) -> WorkerDevice:
        report, age = host.report or (DeviceReport(), timedelta(0))
        return WorkerDevice(
            name=host.device,
            product=report.product,
            memory_total_bytes=report.memory_total_bytes,
            memory_used_bytes=report.memory_used_bytes,
            loaded_models=report.loaded_models,
            report_time=timestamp(self._clock.now() - age),
        )

    async def _drain(self) -> None:
        """Let attempts end by themselves while there is time; hand back the others."""
        self._is_ending = self.presence.draining = True
        graces = (running.kind.grace_period for running in self._running)
        grace = max(graces, default=timedelta(0)) + _LAST_WORDS
        # What follows the attempts has its share of the time too.
        patience = max(timedelta(0), self._shape.drain_timeout - grace - 3 * _LAST_WORDS)
        if not await self._none_left(within=patience):
            for running in self._running:
                running.stop(StopCause.SHUTDOWN)
            if not await self._none_left(within=grace):
                _log.error("attempts_abandoned", tasks=[one.task.id for one in self._running])
        hosts = [host for of_class in self._shape.hosts.values() for host in of_class]
        await asyncio.gather(*(host.close() for host in hosts))
        milliseconds = _LAST_WORDS // timedelta(milliseconds=1)
        await asyncio.to_thread(self._threads.stop, timeout=milliseconds)
        self._feed.drain()
        await self._none_left(within=_LAST_WORDS)

    async def _none_left(self, *, within: timedelta) -> bool:
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._running.none_left()
        except TimeoutError:
            return False
        return True

    def _deliver(self, slots: Slots, tasks: Sequence[Task]) -> None:
        """Run what a claim started, each in a slot of its own."""
        is_idle = self._running.count == 0
        started = [Running(task, kind, slots) for task, kind in self._known(slots, tasks)]
        self._start(started, idle=is_idle)

    def _deliver_together(self, slots: Slots, tasks: Sequence[Task]) -> None:
        """Run what a claim started in one slot."""
        if len(tasks) == 1:
            self._deliver(slots, tasks)
            return
        # They are of one task type: either all are known, or none.
        known = list(self._known(slots, tasks[:1]))
        if not known:
            for task in tasks[1:]:
                self._return_soon(None, task)
            return
        batch = Batch([(task, known[0][1]) for task in tasks], slots)
        self._batched_count += len(tasks)
        self._start(batch.members, idle=False)

    def _known(self, slots: Slots, tasks: Sequence[Task]) -> Iterator[tuple[Task, TaskType]]:
        """Yield tasks with their types; what only newer workers know is given back."""
        for task in tasks:
            kind = self._catalog.get(task.submission.task_type)
            if kind is None:
                self._return_soon(slots, task)
            else:
                yield task, kind

    def _start(self, started: Sequence[Running], *, idle: bool) -> None:
        for running in started:
            if running.task.start_time is not None:
                self._clock.set(running.task.start_time)
            self._running.add(running)
        if started:
            self._feed.put(
                [(one.kind.name, one.task.id, one.attempt) for one in started], idle=idle
            )

    def _return_soon(self, slots: Slots | None, task: Task) -> None:
        returning = asyncio.create_task(self._return_stranger(slots, task))
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)

    async def _return_stranger(self, slots: Slots | None, task: Task) -> None:
        """Give back a task of a type that only newer workers know, and keep its slot a while."""
        _log.error("task_type_unknown", task_id=task.id)
        reason = "this worker does not know the task type"
        try:
            await self._attempts.hand_back(task, attempt=task.attempt, reason=reason)
        except LedgerError as error:
            _log.error("outcome_not_recorded", task_id=task.id, reason=str(error))
        if slots is not None:
            await asyncio.sleep(WITHOUT_RUNNER.total_seconds())
            slots.release()

    def _unused(self, task_id: str, attempt: int) -> None:
        running = self._running.find(task_id, attempt)
        if running is not None:
            back = self._performer.hand_back(running, reason="the worker shuts down")
            asyncio.run_coroutine_threadsafe(back, self._loop)


def _shuffled(candidates: Sequence[Candidate]) -> list[Candidate]:
    # Spread over the candidates, claimers that missed at the same time miss one another.
    return secrets.SystemRandom().sample(candidates, len(candidates))


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when the tasks have ended."""
    left = set(tasks)
    while left:
        # Again and again: redis-py may swallow a cancellation that comes while it sends.
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN.total_seconds())
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            _log.error("worker_task_failed", exc_info=task.exception())
