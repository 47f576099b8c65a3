"""OperationsService over the wire."""

from datetime import timedelta

import pytest
from grpc import StatusCode

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.catalog import queues, task_types
from callsheet.ledger.deliveries import Deliveries, LogStep
from callsheet.ledger.delivery_model import NewDelivery
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.v1 import task_pb2
from callsheet.v1.operations_service_pb2 import (
    DELIVERY_STATE_DEAD,
    DELIVERY_STATE_WAITING,
    DeliveryFilter,
    ListDeliveriesRequest,
    ListQueuesRequest,
    ListWorkersRequest,
    ReplayDeliveriesRequest,
    TaskReplay,
    Worker,
    WorkerSlots,
)
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, image_request, ping_request, refusal

URL = "http://127.0.0.1:9/hook"


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
    by_name = {queue.name: queue for queue in response.queues}
    assert list(by_name) == sorted(queues())
    gpu, system = by_name["gpu"], by_name["system"]
    assert (gpu.name, gpu.ready) == ("gpu", 0)
    assert list(gpu.task_types) == sorted(
        kind.name for kind in task_types().values() if kind.queue == "gpu"
    )
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


async def _delivering(plane: Plane, client: Client, *, url: str = URL) -> str:
    """Return a task whose queued webhook waits."""
    request = ping_request()
    request.callback.url = url
    request.callback.events.append(task_pb2.CALLBACK_EVENT_QUEUED)
    task_id = await client.submit(request)
    log, registry = plane.cell.log, plane.cell.registry
    assert await registry.hold("tailer", "me", duration=timedelta(minutes=1))
    before = (await log.cursors()).get("sidecar", "0-0")
    after = f"{int(before.partition('-')[0]) + 1}-0"
    step = LogStep("tailer", "me", "sidecar", plane.control.pulse.epoch, before, after)
    new = NewDelivery(
        task_id=task_id,
        task_create_time=1,
        project="default",
        sequence=1,
        url=url,
        line="default/o",
        event="queued",
    )
    deliveries = Deliveries(RedisConnection(plane.redis), plane.cell.keys)
    assert await deliveries.record([new], step) == 1
    return task_id


async def test_what_a_callback_asks_for_is_kept_with_its_task(client: Client) -> None:
    request = ping_request()
    request.callback.url = URL
    wanted = [task_pb2.CALLBACK_EVENT_PROGRESS, task_pb2.CALLBACK_EVENT_QUEUED]
    request.callback.events.extend(wanted)
    task_id = await client.submit(request)
    asked = GetTaskRequest(task_id=task_id)
    found = await client.tasks.GetTask(asked, metadata=client.metadata)
    assert set(found.task.callback.events) == set(wanted)


@pytest.mark.parametrize("events", [[0], [99], [1, 1], [1, 2, 3, 4, 5, 1, 2, 3, 4]], ids=str)
async def test_events_that_mean_nothing_are_refused(client: Client, events: list[int]) -> None:
    request = ping_request()
    request.callback.url = URL
    request.callback.events.extend(events)  # pyright: ignore[reportArgumentType]  # numbers that are no events, as clients may send them
    told = await refusal(client.tasks.SubmitTask(request, metadata=client.metadata))
    assert told.code is StatusCode.INVALID_ARGUMENT
    assert told.fields[0].startswith("callback.events")


async def test_an_operator_sees_where_a_delivery_stands(plane: Plane, client: Client) -> None:
    task_id = await _delivering(plane, client)
    response = await client.operations.ListDeliveries(
        ListDeliveriesRequest(task_id=task_id), metadata=client.metadata
    )
    (found,) = response.deliveries
    assert found.id == f"{plane.control.pulse.epoch}_{task_id}_1"
    assert (found.task_id, found.sequence, found.url) == (task_id, 1, URL)
    assert (found.project, found.event) == ("default", "queued")
    assert found.state == DELIVERY_STATE_WAITING
    assert (found.tries, found.last_status, found.last_error) == (0, 0, "")
    assert found.HasField("create_time")
    assert not found.HasField("end_time")


async def test_deliveries_of_a_project_come_newest_first_and_by_filter(
    plane: Plane, client: Client
) -> None:
    tasks = [await _delivering(plane, client, url=f"{URL}/{n % 2}") for n in range(3)]

    async def listed(**filters: object) -> list[str]:
        wanted = DeliveryFilter(**filters)  # pyright: ignore[reportArgumentType]  # the message checks its values at run time
        found, token = list[str](), ""
        while True:
            request = ListDeliveriesRequest(filter=wanted, page_size=2, page_token=token)
            page = await client.operations.ListDeliveries(request, metadata=client.metadata)
            found += [each.task_id for each in page.deliveries]
            token = page.next_page_token
            if not token:
                return found

    assert await listed() == tasks[::-1]
    assert await listed(state=DELIVERY_STATE_WAITING, url=f"{URL}/1") == [tasks[1]]
    assert await listed(state=DELIVERY_STATE_DEAD) == []


async def test_deliveries_are_replayed_by_id_task_and_filter(plane: Plane, client: Client) -> None:
    task_id = await _delivering(plane, client)
    delivery_id = f"{plane.control.pulse.epoch}_{task_id}_1"

    async def replayed(**selection: object) -> int:
        request = ReplayDeliveriesRequest(**selection)  # pyright: ignore[reportArgumentType]  # as above
        response = await client.operations.ReplayDeliveries(request, metadata=client.metadata)
        return response.replayed

    assert await replayed(delivery_id=delivery_id) == 1
    assert await replayed(task=TaskReplay(task_id=task_id)) == 1
    assert await replayed(task=TaskReplay(task_id=task_id, from_sequence=2)) == 0
    assert await replayed(filter=DeliveryFilter()) == 0
    assert await replayed(filter=DeliveryFilter(state=DELIVERY_STATE_WAITING)) == 1


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ReplayDeliveriesRequest(), "selection"),
        (ReplayDeliveriesRequest(delivery_id="d", limit=1001), "limit"),
        (ReplayDeliveriesRequest(task=TaskReplay(task_id="nonsense")), "task.task_id"),
        (ReplayDeliveriesRequest(filter=DeliveryFilter(project="a/b")), "filter.project"),
        (ListDeliveriesRequest(page_size=201), "page_size"),
        (ListDeliveriesRequest(task_id="nonsense"), "task_id"),
        (ListDeliveriesRequest(page_token="nonsense"), "page_token"),  # no password
    ],
    ids=str,
)
async def test_what_selects_nothing_sensible_is_refused(
    client: Client, request_: ReplayDeliveriesRequest | ListDeliveriesRequest, field: str
) -> None:
    if isinstance(request_, ListDeliveriesRequest):
        call = client.operations.ListDeliveries(request_, metadata=client.metadata)
    else:
        call = client.operations.ReplayDeliveries(request_, metadata=client.metadata)
    told = await refusal(call)
    assert told.code is StatusCode.INVALID_ARGUMENT
    assert told.fields[0] == field


async def test_deliveries_of_another_project_are_not_there(plane: Plane, client: Client) -> None:
    task_id = await _delivering(plane, client)
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    reader = await plane.newcomer(projects=frozenset({"default"}), roles=frozenset({"read"}))
    delivery_id = f"{plane.control.pulse.epoch}_{task_id}_1"
    listing, one = ListDeliveriesRequest(task_id=task_id), ReplayDeliveriesRequest()
    one.delivery_id = delivery_id
    operations = stranger.operations
    told = await refusal(operations.ListDeliveries(listing, metadata=stranger.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    told = await refusal(operations.ReplayDeliveries(one, metadata=stranger.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND")
    for call in (
        reader.operations.ListDeliveries(listing, metadata=reader.metadata),
        reader.operations.ReplayDeliveries(one, metadata=reader.metadata),
    ):
        assert (await refusal(call)).reason == "ROLE_MISSING"
