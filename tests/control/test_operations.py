"""OperationsService over the wire."""

from datetime import timedelta

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.deliveries import Deliveries, LogStep, NewDelivery
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.v1 import task_pb2
from callsheet.v1.operations_service_pb2 import (
    DELIVERY_STATE_WAITING,
    ListDeliveriesRequest,
    ListQueuesRequest,
    ListWorkersRequest,
    Worker,
    WorkerSlots,
)
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, image_request, ping_request


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


async def test_an_operator_sees_where_a_delivery_stands(plane: Plane, client: Client) -> None:
    request = ping_request()
    request.callback.url = "http://127.0.0.1:9/hook"
    task_id = await client.submit(request)
    keys, epoch = plane.cell.keys, plane.control.pulse.epoch
    assert await plane.cell.registry.hold("tailer", "me", duration=timedelta(minutes=1))
    await plane.cell.log.save_cursor("sidecar", "0-0")
    deliveries = Deliveries(RedisConnection(plane.redis), keys)
    step = LogStep("tailer", "me", "sidecar", epoch, "0-0", "1-0")
    new = NewDelivery(task_id=task_id, sequence=3, url=request.callback.url, origin="o")
    assert await deliveries.record([new], step) == 1
    response = await client.operations.ListDeliveries(
        ListDeliveriesRequest(task_id=task_id), metadata=client.metadata
    )
    (found,) = response.deliveries
    assert found.id == f"{epoch}_{task_id}_3"
    assert (found.task_id, found.sequence, found.url) == (task_id, 3, request.callback.url)
    assert found.state == DELIVERY_STATE_WAITING
    assert (found.tries, found.last_status, found.last_error) == (0, 0, "")
    assert found.HasField("create_time")
    assert not found.HasField("end_time")
