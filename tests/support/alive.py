"""Workers that are heard of, without one that runs."""

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.registry import Registry
from callsheet.v1.operations_service_pb2 import Worker, WorkerDevice

GB = 10**9


def gpu_worker(
    name: str,
    gigabytes: float | None = None,
    *,
    queue: str = "gpu",
    draining: bool = False,
    paused: bool = False,
) -> Worker:
    """Return what a worker with a device of that much memory says; None: it does not tell."""
    devices = [WorkerDevice(name="cpu")]
    if gigabytes is not None:
        devices += [WorkerDevice(name="cuda:0", memory_total_bytes=round(gigabytes * GB))]
    return Worker(
        id=name,
        queues=[queue],
        device="cuda:0",
        devices=devices,
        draining=draining,
        paused=paused,
    )


async def heard(registry: Registry, *workers: Worker) -> None:
    """Let the registry hear of workers."""
    for worker in workers:
        record = WorkerRecord(version=1, worker=worker)
        await registry.heartbeat(worker.id, record.SerializeToString())
