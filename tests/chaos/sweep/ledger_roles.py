"""The roles on the ledger itself: control, a worker, upkeep."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.broker.claimer import Claimer
from callsheet.broker.slots import Slots
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.errors import LeaseLost, LedgerError, LedgerUnavailable
from callsheet.ledger.graph_progress import READER as GRAPH_READER
from callsheet.ledger.ids import RandomIds
from callsheet.ledger.index import lease_member
from callsheet.ledger.kept_deliveries import KeptDeliveries
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.model import Failure, FailureReason, Progress, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.upkeep.duty import Duty
from callsheet.upkeep.epoch_watch import EpochWatch
from callsheet.upkeep.expirer import Expirer
from callsheet.upkeep.log_trimmer import LogTrimmer
from callsheet.upkeep.mark import MarkFile
from callsheet.upkeep.owed import OwedMedia, OwedWebhooks
from callsheet.upkeep.pruner import Pruner
from callsheet.upkeep.rescuer import Rescuer
from callsheet.upkeep.scheduler import Scheduler
from callsheet.upkeep.upkeep import ROLE as UPKEEP
from callsheet.worker.lease_keeper import LeaseKeeper
from callsheet.worker.running import Running, RunningAttempts, StopCause
from tests.chaos.sweep.role import Role
from tests.chaos.sweep.seam import Point, Seam
from tests.chaos.sweep.world import CATALOG, World, plane_of
from tests.support.ledgers import LEASE, OWNER, Cell, ping
from tests.support.upkeeping import NeverOff

#: The task whose first attempt fails, and whose next one succeeds with an image.
RETRIED: Final = "retried"
#: The task that is cancelled while it runs.
STOPPED: Final = "stopped"

#: As each process has it.
_CONTROL_PATIENCE: Final = timedelta(milliseconds=300)
_WORKER_PATIENCE: Final = timedelta(hours=1)
_UPKEEP_PATIENCE: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_BROKEN: Final = Failure(FailureReason.INTERNAL, "the first attempt fails")
_SECOND: Final = timedelta(seconds=1)


def control(world: World, point: Point | None) -> Role[Cell]:
    """Return the role that clients call."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> Cell:
        del name, seam
        return plane_of(connection, world.cell)

    return Role(world, "control", make, point=point, patience=_CONTROL_PATIENCE)


async def submit(role: Role[Cell], world: World) -> None:
    """Submit both tasks, and again what was not acknowledged: as the client does."""

    async def submit_all(plane: Cell, seam: Seam) -> None:
        del seam
        for request in (RETRIED, STOPPED):
            while request not in world.story.submitted:
                command = ping(request, request_id=request, callback_url=world.endpoint)
                try:
                    task = await plane.ledger.submit(OWNER, command)
                except LedgerUnavailable:
                    continue
                world.story.submitted[request] = task.id

    while not await role.turn(submit_all):
        continue


async def cancel(role: Role[Cell], world: World, task_id: str) -> None:
    """Cancel the task, and again until that is acknowledged."""

    async def cancel_it(plane: Cell, seam: Seam) -> None:
        del seam
        while task_id not in world.story.cancelled:
            try:
                await plane.ledger.cancel(OWNER, task_id, reason="enough")
            except LedgerUnavailable:
                continue
            world.story.cancelled.add(task_id)

    while not await role.turn(cancel_it):
        continue


class _QuietSlots(Slots):
    """Gives out slots while nothing is on its way: so a worker's requests have one order."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.quiet = asyncio.Event()
        self.quiet.set()

    async def some_free(self) -> int:
        """Wait until a slot is free, and nothing is on its way."""
        await self.quiet.wait()
        return await super().some_free()


class ScriptedWorker:
    """A worker whose attempts do as the script says; all that speaks to the ledger is real."""

    def __init__(self, world: World, connection: RedisConnection, name: str) -> None:
        self._world = world
        self._plane = plane_of(connection, world.cell)
        self._attempts = Attempts(
            self._plane.writer, self._plane.log, CATALOG, worker=name, lease=LEASE
        )
        self._running = RunningAttempts()
        self._keeper = LeaseKeeper(self._attempts, self._plane.store, self._running)
        self._slots = _QuietSlots(2)
        self._claimed: list[Running] = []
        self._concluding: set[asyncio.Task[None]] = set()
        self._claimer = Claimer(
            self._attempts,
            self._plane.store,
            self._slots,
            queues=("system",),
            device="",
            deliver=self._deliver,
            shuffle=list,
        )

    @property
    def leases(self) -> set[str]:
        """The leases of what it runs."""
        return {lease_member(each.task.id, each.attempt) for each in self._running}

    async def claim(self, seam: Seam) -> None:
        """Claim, and let attempts run, until there is nothing to wait for but others."""
        claiming = asyncio.ensure_future(self._claimer.run())
        try:
            await seam.idle.wait()
        finally:
            claiming.cancel()
            for each in self._concluding:
                each.cancel()
            await asyncio.wait({claiming, *self._concluding})

    async def listen(self) -> None:
        """Renew, hear what was cancelled, and stop that; what is not heard a renewal tells."""
        await self._renew()
        try:
            word = await self._plane.store.await_control(
                self._attempts.worker, timeout=timedelta(milliseconds=1)
            )
        except LedgerUnavailable:
            word = None
        named = None if word is None else self._running.find(*word)
        if named is None:
            await self._renew()
        else:
            await self._keeper.look(named)
        for running in self._running:
            if running.cause is not None:
                await self._conclude(running)

    async def leave(self) -> None:
        """End in order; what fails of it runs out by itself."""
        with suppress(LedgerError):
            await self._plane.registry.forget_worker(self._attempts.worker)

    async def _renew(self) -> None:
        with suppress(LedgerError):
            await self._keeper.renew()

    def _deliver(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            running = Running(task, CATALOG["ping"], self._slots)
            self._running.add(running)
            self._claimed.append(running)
        self._slots.quiet.clear()
        running_all = asyncio.ensure_future(self._run_claimed())
        self._concluding.add(running_all)
        running_all.add_done_callback(self._concluding.discard)

    async def _run_claimed(self) -> None:
        try:
            while self._claimed:
                running = self._claimed.pop(0)
                self._world.story.executed.append((running.task.id, running.attempt))
                await self._report(running)
                if running.task.id != self._world.story.submitted[STOPPED]:
                    await self._conclude(running)
        finally:
            self._slots.quiet.set()

    async def _report(self, running: Running) -> None:
        progress = Progress(1, 2, "half of it", running.task.update_time + _SECOND)
        try:
            await self._attempts.announce(running.task, attempt=running.attempt, progress=progress)
            await self._attempts.keep_progress(
                running.task, attempt=running.attempt, progress=progress
            )
        except LedgerError:
            return  # a signal may be missed

    async def _conclude(self, running: Running) -> None:
        """Record the end; what cannot be recorded the rescuer sees to, once the lease is over."""
        try:
            with suppress(LedgerUnavailable):
                await self._record(running)
        except LeaseLost:
            self._world.story.lost.append((running.task.id, running.attempt))
        finally:
            self._running.remove(running)

    async def _record(self, running: Running) -> None:
        task, attempt = running.task, running.attempt
        if running.cause is StopCause.LEASE_LOST:
            raise LeaseLost(task.id, attempt)
        if running.cause is StopCause.CANCELLED:
            await self._attempts.confirm_cancel(task, attempt=attempt)
        elif attempt == 1:
            await self._attempts.fail(task, attempt=attempt, failure=_BROKEN)
        else:
            await self._attempts.succeed(
                task, attempt=attempt, output=_image(task), usage=Usage(tokens=attempt)
            )


def worker(world: World, point: Point | None) -> Role[ScriptedWorker]:
    """Return the role that runs attempts."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> ScriptedWorker:
        del seam
        return ScriptedWorker(world, connection, name)

    return Role(world, "worker", make, point=point, patience=_WORKER_PATIENCE, parks_from=_SECOND)


class ScriptedUpkeep:
    """All duties of upkeep, each done once a turn, under the role."""

    def __init__(self, world: World, connection: RedisConnection, name: str) -> None:
        plane = plane_of(connection, world.cell)
        writer, log = plane.writer, plane.log
        mark = MarkFile(world.outside.folder / f"{world.cell}.json")
        self._registry = plane.registry
        self._holder = name
        self._hold_off = NeverOff()
        self._duties: list[Duty] = [
            Rescuer(writer, log, CATALOG, hold_off=self._hold_off, lease=LEASE),
            Scheduler(writer),
            Expirer(writer),
            Pruner(
                writer,
                OwedWebhooks(KeptDeliveries(connection, plane.keys), log),
                OwedMedia(MediaWork(connection, plane.keys), patience=_DAY),
            ),
            LogTrimmer(log, plane.store, giving_way={GRAPH_READER: 1000}),
            EpochWatch(log, RandomIds(), mark),
        ]

    async def once(self) -> None:
        """Take the role, do every duty, and give the role up."""
        await _insisting(self._take)
        for duty in self._duties:
            await _insisting(duty.run_once)
        await _insisting(lambda: self._registry.release(UPKEEP, self._holder))

    async def _take(self) -> None:
        assert await self._registry.hold(UPKEEP, self._holder, duration=_DAY)


async def _insisting(do: Callable[[], Awaitable[object]]) -> None:
    """Do it again until the ledger answers, as the loops of upkeep do after a rest."""
    while True:
        try:
            await do()
        except LedgerUnavailable:
            continue
        return


def upkeep(world: World, point: Point | None) -> Role[ScriptedUpkeep]:
    """Return the role that sees to what nobody else does."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> ScriptedUpkeep:
        del seam
        return ScriptedUpkeep(world, connection, name)

    return Role(world, "upkeep", make, point=point, patience=_UPKEEP_PATIENCE, holds=(UPKEEP,))


def _image(task: Task) -> bytes:
    """Return an output whose media somebody registers."""
    artifact = Artifact(
        uri=f"s3://films/{task.id}.png", sha256="0" * 64, media_type="image/png", size_bytes=9
    )
    packed = AnyMessage()
    packed.Pack(GenerateImageOutput(images=[artifact], seed=7, model="tiny", steps=2))
    return packed.SerializeToString(deterministic=True)
