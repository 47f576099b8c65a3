"""What runners say of their devices is what the worker tells of them."""

from datetime import UTC, datetime, timedelta

from callsheet.broker.slots import Slots
from callsheet.internal.v1.pipe_pb2 import DeviceReport
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.waiting import live_workers
from callsheet.v1.operations_service_pb2 import WorkerDevice
from callsheet.worker.ledger_clock import LedgerClock
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.worker import LedgerWorker, Shape
from tests.support.ledgers import Cell, memory_cell
from tests.support.runners import ALONE

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
GIGABYTE = 10**9


class Reporting(RunnerHost):
    """A host whose runner has said this of its device, a while ago."""

    def __init__(self, report: DeviceReport | None) -> None:
        super().__init__("cuda:0")
        self._said = report

    @property
    def report(self) -> tuple[DeviceReport, timedelta] | None:
        """What it has said."""
        return None if self._said is None else (self._said, timedelta(seconds=3))


async def told(plane: Cell, *reports: DeviceReport | None) -> list[WorkerDevice]:
    """Return what is told of the devices of a worker with these runners."""
    shape = Shape(
        queues={ResourceClass.DEVICE: ("gpu",)},
        slots={ResourceClass.DEVICE: Slots(1)},
        hosts={ResourceClass.DEVICE: [Reporting(report) for report in reports]},
        device="cuda:0",
        memory_limit_bytes=None,
        drain_timeout=timedelta(0),
        choice=ALONE,
    )
    worker = LedgerWorker(
        plane.attempts("w"),
        plane.store,
        plane.registry,
        catalog=plane.catalog,
        shape=shape,
        clock=LedgerClock(NOON),
    )
    await worker.presence.tell()
    (found,) = await live_workers(plane.registry)
    return list(found.devices)


async def test_a_worker_tells_memory_and_warm_models_of_its_devices() -> None:
    report = DeviceReport(
        product="NVIDIA H100",
        memory_total_bytes=80 * GIGABYTE,
        memory_used_bytes=20 * GIGABYTE,
        loaded_models=["flux", "sdxl"],
    )
    (device,) = await told(memory_cell(), report)
    assert (device.name, device.product) == ("cuda:0", "NVIDIA H100")
    assert (device.memory_total_bytes, device.memory_used_bytes) == (80 * GIGABYTE, 20 * GIGABYTE)
    assert list(device.loaded_models) == ["flux", "sdxl"]
    age = NOON - device.report_time.ToDatetime(tzinfo=UTC)
    assert timedelta(0) < age <= timedelta(seconds=3)


async def test_a_worker_whose_runners_have_said_nothing_tells_of_no_device() -> None:
    assert await told(memory_cell(), None) == []
