"""Control, workers and sidecar are looked at, as a real control plane tells of them."""

import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from callsheet.client import AsyncTaskClient
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.graph_progress import READER as BRAIN_READER
from callsheet.ledger.graph_progress import ROLE as BRAIN_ROLE
from callsheet.runtime.checks.control_check import ControlCheck
from callsheet.runtime.checks.finding import Finding, HealthState, looked
from callsheet.runtime.checks.plane_checks import (
    BEHIND,
    STUCK,
    SidecarCheck,
    WorkersCheck,
    sidecar_finding,
    workers_finding,
)
from callsheet.sidecar.tailer import READER, ROLE
from callsheet.v1.operations_service_pb2 import LogReader, Queue, Worker, WorkerSlots
from tests.support.controls import Plane, running_plane

UP, DEGRADED, DOWN, UNKNOWN = (
    HealthState.UP,
    HealthState.DEGRADED,
    HealthState.DOWN,
    HealthState.UNKNOWN,
)


@pytest.fixture
async def plane(valkey_server: EmbeddedValkey, cell: str) -> AsyncIterator[Plane]:
    async with running_plane(valkey_server.url, cell) as plane:
        yield plane


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[AsyncTaskClient]:
    async with AsyncTaskClient(plane.address, key=plane.client.key) as client:
        yield client


async def control_at(address: str) -> Finding:
    check = ControlCheck(address)
    try:
        return await looked(check)
    finally:
        await check.close()


async def alive(plane: Plane, *queues: str) -> None:
    slots = [WorkerSlots(resource_class="worker", total=8, busy=3)]
    worker = Worker(id="w-1", host="h", pid=7, queues=queues, device="cpu", slots=slots)
    record = WorkerRecord(version=1, worker=worker)
    await plane.cell.registry.heartbeat("w-1", record.SerializeToString())


async def test_a_control_that_serves_is_up(plane: Plane) -> None:
    found = await control_at(plane.address)
    assert found.state is UP
    assert found.latency is not None


async def test_a_control_whose_ledger_is_away_is_down(plane: Plane) -> None:
    plane.control.pulse.on_look.clear()
    plane.control.health.set(False)
    found = await control_at(plane.address)
    assert (found.state, found.reason) == (DOWN, "its ledger does not answer")


async def test_a_control_that_is_not_there_is_down_and_its_address_no_reason() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and never listening
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        found = await control_at(address)
    assert (found.state, found.reason) == (DOWN, "it does not answer")
    assert address in found.detail


async def test_a_queue_that_nobody_serves_is_down_once_tasks_wait_in_it(
    plane: Plane, client: AsyncTaskClient
) -> None:
    # Given a worker of one queue, and a task in another one
    await alive(plane, "gpu")
    await plane.client.submit()
    # When the workers are looked at
    found = await looked(WorkersCheck(client))
    # Then it is told of each queue
    assert found.state is DEGRADED
    assert found.parts["gpu"].state is UP
    system = found.parts["system"]
    assert (system.state, system.reason) == (DOWN, "tasks wait and no worker serves it")
    assert system.figures["ready"] == 1


async def test_without_any_worker_the_workers_are_down(client: AsyncTaskClient) -> None:
    found = await looked(WorkersCheck(client))
    assert (found.state, found.reason) == (DOWN, "no worker runs")
    assert {part.state for part in found.parts.values()} == {DEGRADED}


def test_a_paused_queue_is_told_of() -> None:
    queue = Queue(name="gpu", workers=1)
    assert workers_finding([queue]).state is UP
    queue.pause_time.GetCurrentTime()
    found = workers_finding([queue])
    assert (found.state, found.parts["gpu"].reason) == (DEGRADED, "operators paused it")


async def test_a_sidecar_that_reads_along_is_up(plane: Plane, client: AsyncTaskClient) -> None:
    hold = timedelta(minutes=1)
    check = SidecarCheck(client, has_brain=True)
    assert (await looked(check)).state is DOWN
    await plane.cell.registry.hold(ROLE, "sidecar-1", duration=hold)
    await plane.cell.log.save_cursor(READER, await plane.cell.log.end())
    await plane.cell.registry.hold(BRAIN_ROLE, "sidecar-1", duration=hold)
    await plane.cell.log.save_cursor(BRAIN_READER, await plane.cell.log.end())
    found = await looked(check)
    assert (found.state, set(found.parts)) == (UP, {"webhooks", "brain"})


def reader(name: str, *, lag: timedelta = timedelta(), is_held: bool = True) -> LogReader:
    made = LogReader(name=name, is_held=is_held)
    made.lag.FromTimedelta(lag)
    return made


@pytest.mark.parametrize(
    ("lag", "is_held", "state", "reason"),
    [
        (timedelta(seconds=2), True, UP, ""),
        (BEHIND + timedelta(seconds=1), True, DEGRADED, "it is behind"),
        (STUCK + timedelta(seconds=1), True, DOWN, "it is far behind"),
        (timedelta(), False, DOWN, "no sidecar runs"),
    ],
)
def test_lag_makes_the_state(
    lag: timedelta,
    is_held: bool,  # noqa: FBT001  # a parameter of the test
    state: HealthState,
    reason: str,
) -> None:
    found = sidecar_finding([reader("sidecar", lag=lag, is_held=is_held)], has_brain=False)
    assert (found.state, found.reason) == (state, reason)


def test_a_brain_that_is_not_told_lessens_the_sidecar_and_no_more() -> None:
    readers = [reader("brain", lag=2 * STUCK), reader("sidecar"), reader("counter", is_held=False)]
    assert sidecar_finding(readers, has_brain=False).state is UP
    found = sidecar_finding(readers, has_brain=True)
    assert (found.state, found.reason) == (DEGRADED, "the brain: it is far behind")
    assert found.parts["brain"].state is DOWN


async def test_without_a_key_nobody_knows_and_it_is_said_how_to_mend_that() -> None:
    for check in (WorkersCheck(None), SidecarCheck(None, has_brain=False)):
        found = await looked(check)
        assert found.state is UNKNOWN
        assert "CALLSHEET_HEALTH_KEY" in found.mend


async def test_a_key_that_may_not_look_is_told_of(plane: Plane) -> None:
    key = await plane.key(projects=frozenset({"default"}), roles=frozenset({"read"}))
    async with AsyncTaskClient(plane.address, key=key) as client:
        found = await looked(WorkersCheck(client))
    assert (found.state, found.reason) == (UNKNOWN, "the key to look with is refused")
