"""Attempts and the runners of their class."""

import asyncio
from datetime import UTC, datetime
from typing import cast

from msgspec.structs import replace

from callsheet.broker.slots import Slots
from callsheet.internal.v1.pipe_pb2 import AttemptEnded, RunAttempt
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.model import Task
from callsheet.worker.lease_keeper import LeaseKeeper
from callsheet.worker.performer import Performer
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.running import Running, RunningAttempts
from tests.support.ledgers import OWNER, Cell, memory_cell, ping

SECONDS = 30


class SlowlyStarting:
    """A runner host whose runner is not ready before all are asked for."""

    def __init__(self, all_started: asyncio.Barrier) -> None:
        self._all_started = all_started
        self.ran: list[str] = []

    async def start(self) -> None:
        await self._all_started.wait()

    async def run(self, attempt: RunAttempt, **terms: object) -> AttemptEnded:
        del terms
        self.ran.append(attempt.task_id)
        return AttemptEnded(task_id=attempt.task_id)


async def started(plane: Cell) -> Task:
    task = await plane.ledger.submit(OWNER, ping())
    attempts = plane.attempts("w")
    found = await attempts.claim(count=1, queues=("system",), candidates=(), device="")
    claims = await attempts.claim(count=1, queues=("system",), candidates=found.ready, device="cpu")
    assert [claimed.id for claimed in claims.tasks] == [task.id]
    return claims.tasks[0]


async def test_attempts_that_start_together_get_a_runner_each() -> None:
    plane = memory_cell()
    both_started = asyncio.Barrier(2)
    hosts = [SlowlyStarting(both_started), SlowlyStarting(both_started)]
    running, attempts = RunningAttempts(), plane.attempts("w")
    performer = Performer(
        attempts,
        running,
        LeaseKeeper(attempts, plane.store, running),
        {ResourceClass.DEVICE: [cast("RunnerHost", host) for host in hosts]},
        memory_limit_bytes=None,
        now=lambda: datetime(2027, 3, 1, tzinfo=UTC),
        loop=asyncio.get_running_loop(),
    )
    on_device = replace(plane.catalog["ping"], resource_class=ResourceClass.DEVICE)
    tasks = [await started(plane), await started(plane)]
    slots = Slots(2)
    slots.take(2)
    for task in tasks:
        running.add(Running(task, on_device, slots))
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(
            *(asyncio.to_thread(performer.perform, task.id, task.attempt) for task in tasks)
        )
    assert sorted(len(host.ran) for host in hosts) == [1, 1]
    assert {task_id for host in hosts for task_id in host.ran} == {task.id for task in tasks}
