"""Some days of a ledger: clients, workers and upkeep, under weather that a seed decides."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from random import Random  # noqa: TID251  # a seed's dice, which nobody hands in
from types import MappingProxyType
from typing import Final, cast

from msgspec.structs import replace

from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import TaskType, task_types
from callsheet.ledger.errors import (
    IllegalTransition,
    LeaseLost,
    LedgerError,
    LedgerUnavailable,
    TaskNotFound,
)
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import span
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.log import Log
from callsheet.ledger.memory_log import MemoryLog, MemoryRegistry
from callsheet.ledger.memory_store import MemoryCell, MemoryStore
from callsheet.ledger.model import Backoff, Failure, FailureReason, Task, Usage
from callsheet.ledger.registry import Registry
from callsheet.ledger.store import Candidate, Store
from callsheet.ledger.writer import Writer
from callsheet.upkeep.duty import Duty
from callsheet.upkeep.expirer import Expirer
from callsheet.upkeep.hold_off import HoldOff
from callsheet.upkeep.pruner import Pruner
from callsheet.upkeep.rescuer import Rescuer
from callsheet.upkeep.scheduler import Scheduler
from callsheet.upkeep.upkeep import ROLE
from callsheet.worker.lease_keeper import RENEWALS_A_LEASE
from tests.chaos.schedule.clockwork import (
    LATENCY,
    TRIES,
    WORKER_TRIES,
    Carrier,
    Clockwork,
    Far,
    Process,
    Sleep,
    Weather,
)
from tests.chaos.schedule.judge import Acknowledged, Judge, output_of
from tests.support.ledgers import OWNER, ping

LEASE: Final = timedelta(hours=1)
HOUR: Final = span(timedelta(hours=1))
#: How long faults go on, and after them what is left may take.
TROUBLED: Final = 16 * HOUR
HEALED: Final = 72 * HOUR
RETENTION: Final = timedelta(hours=6)
QUEUES: Final = ("system",)
WORKERS: Final = 3
#: What may pass between an acknowledged cancellation and the end of its work: a renewal, and ways.
NOTICED_WITHIN: Final = HOUR // 2
_BACKOFF: Final = Backoff(timedelta(minutes=5), 2.0, timedelta(hours=1))
CATALOG: Final[Mapping[str, TaskType]] = MappingProxyType(
    {"ping": replace(task_types()["ping"], backoff=_BACKOFF, max_attempts=4)}
)
#: A worker's chance to die from one renewal to the next.
_DIES: Final = 0.02
BROKEN: Final = Failure(FailureReason.INTERNAL, "broken")


class Ids:
    """Makes ids from a seed's dice."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    def task_id(self) -> str:
        """Return a new task's id."""
        return f"{self._dice.getrandbits(128):032x}"

    def operation(self) -> int:
        """Return a new write's id."""
        return self._dice.getrandbits(62) + (1 << 62)

    def epoch(self) -> str:
        """Return a new epoch."""
        return f"{self._dice.getrandbits(32):08x}"

    def jitter(self) -> float:
        """Return a chance in [0, 1)."""
        return self._dice.random()


class _RestartedLog(MemoryLog):
    """The log of a server that starts anew after each outage."""

    def __init__(self, days: "Days") -> None:
        super().__init__(days.cell, new_epoch=lambda: "first")
        self._days = days
        self._ends = [end for _, end in days.weather.outages]

    async def instance(self) -> str:
        """Return what changes with each start."""
        return str(sum(end <= self._days.clockwork.now for end in self._ends))


class Days:
    """One seed's days."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)  # noqa: S311  # chance that a seed repeats, no secret
        self.clockwork = Clockwork(self.dice)
        self.weather = Weather(outages=self._outages())
        self.processes: dict[str, Process] = {}
        self.told = Acknowledged()
        self.keys = Keys("days")
        self.cell = MemoryCell(self.clockwork.clock)
        self.is_closing = False
        self._start = self.clockwork.now
        self._ids = Ids(self.dice)
        self._near = MemoryStore(self.cell, self.keys)
        self._log = _RestartedLog(self)
        self._registry = MemoryRegistry(self.cell, self.keys)
        self.judge = Judge(self.cell, self.keys, self.told, self.processes, lease=span(LEASE))

    def pass_by(self) -> None:
        """Let the days pass, judge every step, and wait until everything has ended.

        Raises AssertionError for what must not be.
        """
        for number in range(2):
            self.clockwork.start(self._client(f"client-{number}"))
            self.clockwork.start(self._upkeep(f"upkeep-{number}"))
        for number in range(WORKERS):
            self.clockwork.start(self._worker(f"worker-{number}"))
        self.clockwork.look = self.judge.look
        try:
            self.clockwork.run(lambda: self.clockwork.now > self._start + TROUBLED)
            self.weather.heal(self.clockwork.now)
            self.is_closing = True
            end = self.clockwork.now + HEALED
            self.clockwork.run(lambda: self._is_over() or self.clockwork.now > end)
            assert self._is_over(), "work does not flow again"
            self.judge.look_at_all()
        finally:
            self.clockwork.close()

    def _is_over(self) -> bool:
        return all(task.is_final for task in self.judge.tasks.values())

    def _outages(self) -> list[tuple[int, int]]:
        starts = [self.dice.randrange(TROUBLED) for _ in range(self.dice.randrange(3))]
        now = self.clockwork.now
        return [(now + start, now + start + self.dice.randrange(3 * HOUR)) for start in starts]

    def _writer(self, process: Process, *, tries: int = TRIES) -> tuple[Writer, Carrier]:
        carrier = Carrier(self.clockwork, self.weather, process, tries=tries)
        store = cast("Store", Far(self._near, carrier))
        return Writer(store, self.keys, self._ids, retention=RETENTION), carrier

    def _process(self, name: str) -> Process:
        return self.processes.setdefault(name, Process(name))

    async def _client(self, name: str) -> None:
        """Submit, cancel and retry; repeat what may have been lost, by its request_id."""
        process = self._process(name)
        writer, _ = self._writer(process)
        ledger = Ledger(writer, CATALOG)
        made = 0
        while not self.is_closing:
            await Sleep(self.dice.randrange(2 * HOUR))
            made += 1
            command = self._command(f"{name}-{made}")
            task_id = await self._submitted(ledger, command)
            if self.dice.random() < 0.2:
                await Sleep(self.dice.randrange(2 * HOUR))
                await self._cancelled(ledger, task_id)
            elif self.dice.random() < 0.2:
                with suppress(IllegalTransition, LedgerUnavailable, TaskNotFound):
                    request = f"{name}-{made}-again"
                    again = await ledger.retry(OWNER, task_id, request_id=request, trace_parent="")
                    self.told.requests[request] = again.id

    def _command(self, request: str) -> SubmitCommand:
        dice = self.dice
        some_time = timedelta(minutes=dice.randrange(1, 300))
        return ping(
            request,
            request_id=request,
            delay=some_time if dice.random() < 0.2 else timedelta(0),
            expire_after=some_time if dice.random() < 0.1 else None,
            priority=dice.randrange(10),
        )

    async def _submitted(self, ledger: Ledger, command: SubmitCommand) -> str:
        answers: set[str] = set()
        repeats = 1 + (self.dice.random() < 0.1)
        while len(answers) < 1 or repeats > 0:
            try:
                answers.add((await ledger.submit(OWNER, command)).id)
                repeats -= 1
            except LedgerUnavailable:
                await Sleep(self.dice.randrange(HOUR // 10))
        (task_id,) = answers
        self.told.requests[command.request_id] = task_id
        return task_id

    async def _cancelled(self, ledger: Ledger, task_id: str) -> None:
        with suppress(IllegalTransition, LedgerUnavailable, TaskNotFound):
            task = await ledger.cancel(OWNER, task_id, reason="enough")
            if not task.is_final:
                self.told.cancels.setdefault(task_id, self.clockwork.now)

    async def _worker(self, name: str) -> None:
        """Claim and run attempts, two at a time at most; die now and then, and come back."""
        generation = 0
        while True:
            generation += 1
            process = self._process(f"{name}-{generation}")
            writer, carrier = self._writer(process, tries=WORKER_TRIES)
            log = cast("Log", Far(self._log, carrier))
            attempts = Attempts(writer, log, CATALOG, worker=process.name, lease=LEASE)
            await self._work(attempts, process)
            await Sleep(self.dice.randrange(3 * HOUR))

    async def _work(self, attempts: Attempts, process: Process) -> None:
        hints: Sequence[Candidate] = ()
        while True:
            try:
                claims = await attempts.claim(
                    count=2, queues=QUEUES, candidates=hints[:2], device="cpu"
                )
            except LedgerUnavailable:
                hints = ()
                await Sleep(self.dice.randrange(HOUR // 10))
                continue
            hints = claims.ready
            if claims.tasks:
                if not await self._run(attempts, list(claims.tasks), process):
                    return
                hints = ()
            elif not hints:
                await Sleep(self.dice.randrange(HOUR // 4))

    async def _run(self, attempts: Attempts, tasks: list[Task], process: Process) -> bool:
        """Run attempts beside one another, renewing their leases; False: the worker has died."""
        ends = {task.id: self.clockwork.now + self.dice.randrange(4 * HOUR) for task in tasks}
        while tasks:
            await Sleep(span(LEASE) // RENEWALS_A_LEASE)
            if not self.is_closing and self.dice.random() < _DIES:
                process.died_at = self.clockwork.now
                return False
            tasks = await self._renewed(attempts, tasks, process)
            for task in [each for each in tasks if ends[each.id] <= self.clockwork.now]:
                await self._end(attempts, task)
                tasks.remove(task)
        return True

    async def _renewed(self, attempts: Attempts, tasks: list[Task], process: Process) -> list[Task]:
        """Renew; return those that go on, and stop what was cancelled."""
        try:
            sequences = await attempts.renew([(task.id, task.attempt) for task in tasks])
        except LedgerUnavailable:
            return tasks
        going_on: list[Task] = []
        for task, sequence in zip(tasks, sequences, strict=True):
            if sequence == task.sequence:
                going_on.append(task)
            elif sequence:
                with suppress(LedgerError):
                    await attempts.confirm_cancel(
                        await attempts.read(task.id), attempt=task.attempt
                    )
                    self._check_stopped(task, process)
        return going_on

    def _check_stopped(self, task: Task, process: Process) -> None:
        """What was cancelled has stopped soon, unless its worker or the server was away."""
        since, now = self.told.cancels.get(task.id), self.clockwork.now
        if since is None or process.was_away(since - NOTICED_WITHIN, now):
            return
        if any(start < now and end > since for start, end in self.weather.outages):
            return
        self.judge.counts["stopped"] += 1
        assert now - since <= 2 * NOTICED_WITHIN, "it went on long after it was cancelled"

    async def _end(self, attempts: Attempts, task: Task) -> None:
        how = self.dice.random()
        output = output_of(attempts.worker, task.attempt)
        try:
            if how < 0.2:
                await attempts.fail(task, attempt=task.attempt, failure=BROKEN)
            elif how < 0.25:
                await attempts.hand_back(task, attempt=task.attempt, reason="later")
            else:
                await attempts.succeed(task, attempt=task.attempt, output=output, usage=Usage())
        except LeaseLost:
            self.judge.hear_that_it_was_lost(task.id, output)
        except LedgerUnavailable:
            return

    async def _upkeep(self, name: str) -> None:
        """Do every duty while it has the role, or believes so."""
        process = self._process(name)
        # Most can go wrong between what it looks at and what it does about that.
        process.drowsiness = 10
        writer, carrier = self._writer(process)
        registry = cast("Registry", Far(self._registry, carrier))
        log = cast("Log", Far(self._log, carrier))
        hold_off = HoldOff(LEASE)
        duties: list[Duty] = [
            Rescuer(writer, log, CATALOG, hold_off=hold_off, lease=LEASE),
            Scheduler(writer),
            Expirer(writer),
            Pruner(writer),
        ]
        while True:
            try:
                if await registry.hold(ROLE, name, duration=LEASE / 2):
                    for duty in duties:
                        await duty.run_once()
            except LedgerUnavailable:
                hold_off.interrupt()
                await Sleep(self.dice.randrange(span(LATENCY)))
            else:
                await Sleep(self.dice.randrange(HOUR // 4))
