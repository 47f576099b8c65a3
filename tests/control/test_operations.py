"""OperationsService over the wire."""

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.v1 import task_pb2
from callsheet.v1.operations_service_pb2 import (
    ListDeliveriesRequest,
    ListQueuesRequest,
    ListWorkersRequest,
    Worker,
    WorkerSlots,
)
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, image_request


async def _alive(plane: Plane, worker: Worker) -> None:
    record = WorkerRecord(version=1, worker=worker)
    await plane.cell.registry.heartbeat(worker.id, record.SerializeToString())


def _worker(name: str, *queues: str, draining: bool = False) -> Worker:
    slots = [
        WorkerSlots(resource_class="worker", total=8, busy=3),
        WorkerSlots(resource_class="device", total=1, busy=1),
    ]
    return Worker(
        id=name, host="h", pid=7, queues=queues, device="cpu", slots=slots, draining=draining
    )


async def test_every_queue_is_listed_by_name(plane: Plane, client: Client) -> None:
    await client.submit()
    await client.submit()
    await _alive(plane, _worker("w-1", "system", "gpu"))
    await _alive(plane, _worker("w-2", "system"))
    await _alive(plane, _worker("w-3", "system", draining=True))
    response = await client.operations.ListQueues(ListQueuesRequest(), metadata=client.metadata)
    gpu, system = response.queues
    assert (gpu.name, list(gpu.task_types), gpu.ready) == ("gpu", ["generate_image"], 0)
    assert (gpu.workers, gpu.slots, gpu.busy_slots) == (1, 1, 1)
    assert not gpu.HasField("oldest_wait")
    assert (system.name, list(system.task_types), system.ready) == ("system", ["ping"], 2)
    assert (system.workers, system.slots, system.busy_slots) == (2, 16, 6)
    assert system.HasField("oldest_wait")


async def test_live_workers_are_listed_by_id(plane: Plane, client: Client) -> None:
    await _alive(plane, _worker("w-2", "gpu"))
    await _alive(plane, _worker("w-1", "system"))
    response = await client.operations.ListWorkers(ListWorkersRequest(), metadata=client.metadata)
    assert [worker.id for worker in response.workers] == ["w-1", "w-2"]
    assert all(worker.HasField("seen_time") for worker in response.workers)
    assert list(response.workers[1].queues) == ["gpu"]


async def test_a_task_waits_for_a_worker_or_for_a_slot(plane: Plane, client: Client) -> None:
    task_id = await client.submit(image_request())

    async def reason() -> task_pb2.WaitReason.ValueType:
        request = GetTaskRequest(task_id=task_id)
        found = await client.tasks.GetTask(request, metadata=client.metadata)
        return found.task.wait_reason

    await _alive(plane, _worker("w-1", "system"))
    await _alive(plane, _worker("w-2", "gpu", draining=True))
    assert await reason() == task_pb2.WAIT_REASON_NO_WORKER
    await _alive(plane, _worker("w-3", "gpu"))
    assert await reason() == task_pb2.WAIT_REASON_BUSY


async def test_a_task_without_a_callback_has_no_deliveries(client: Client) -> None:
    task_id = await client.submit()
    response = await client.operations.ListDeliveries(
        ListDeliveriesRequest(task_id=task_id), metadata=client.metadata
    )
    assert list(response.deliveries) == []
