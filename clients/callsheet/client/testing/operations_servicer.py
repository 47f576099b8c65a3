"""OperationsService of the fake plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet.client.errors import NotFound
from callsheet.v1 import operations_service_pb2, operations_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callsheet.client.testing.plane import FakePlane
    from callsheet.client.testing.wire import Context, Wire


class FakeOperationsServicer(operations_service_pb2_grpc.OperationsServiceServicer):
    """OperationsService with what a test put there; what is paused is noted, and goes on."""

    def __init__(self, plane: FakePlane, wire: Wire) -> None:
        self._plane = plane
        self._wire = wire

    async def ListQueues(
        self, request: operations_service_pb2.ListQueuesRequest, context: Context
    ) -> operations_service_pb2.ListQueuesResponse:
        async def produce() -> operations_service_pb2.ListQueuesResponse:
            return operations_service_pb2.ListQueuesResponse(queues=self._plane.queues)

        return await self._wire.answer(context, request, produce, method="ListQueues")

    async def ListWorkers(
        self, request: operations_service_pb2.ListWorkersRequest, context: Context
    ) -> operations_service_pb2.ListWorkersResponse:
        async def produce() -> operations_service_pb2.ListWorkersResponse:
            return operations_service_pb2.ListWorkersResponse(workers=self._plane.workers)

        return await self._wire.answer(context, request, produce, method="ListWorkers")

    async def PauseQueue(
        self, request: operations_service_pb2.PauseQueueRequest, context: Context
    ) -> operations_service_pb2.PauseQueueResponse:
        async def produce() -> operations_service_pb2.PauseQueueResponse:
            queue = _named(self._plane.queues, request.queue)
            if not queue.HasField("pause_time"):
                queue.pause_time.GetCurrentTime()
            return operations_service_pb2.PauseQueueResponse(queue=queue)

        return await self._wire.answer(context, request, produce, method="PauseQueue")

    async def ResumeQueue(
        self, request: operations_service_pb2.ResumeQueueRequest, context: Context
    ) -> operations_service_pb2.ResumeQueueResponse:
        async def produce() -> operations_service_pb2.ResumeQueueResponse:
            queue = _named(self._plane.queues, request.queue)
            queue.ClearField("pause_time")
            return operations_service_pb2.ResumeQueueResponse(queue=queue)

        return await self._wire.answer(context, request, produce, method="ResumeQueue")

    async def PauseWorker(
        self, request: operations_service_pb2.PauseWorkerRequest, context: Context
    ) -> operations_service_pb2.PauseWorkerResponse:
        async def produce() -> operations_service_pb2.PauseWorkerResponse:
            worker = _with_id(self._plane.workers, request.worker_id)
            worker.paused = not worker.draining
            return operations_service_pb2.PauseWorkerResponse(worker=worker)

        return await self._wire.answer(context, request, produce, method="PauseWorker")

    async def ResumeWorker(
        self, request: operations_service_pb2.ResumeWorkerRequest, context: Context
    ) -> operations_service_pb2.ResumeWorkerResponse:
        async def produce() -> operations_service_pb2.ResumeWorkerResponse:
            worker = _with_id(self._plane.workers, request.worker_id)
            worker.paused = worker.draining = False
            return operations_service_pb2.ResumeWorkerResponse(worker=worker)

        return await self._wire.answer(context, request, produce, method="ResumeWorker")

    async def DrainWorker(
        self, request: operations_service_pb2.DrainWorkerRequest, context: Context
    ) -> operations_service_pb2.DrainWorkerResponse:
        async def produce() -> operations_service_pb2.DrainWorkerResponse:
            worker = _with_id(self._plane.workers, request.worker_id)
            worker.paused, worker.draining = False, True
            return operations_service_pb2.DrainWorkerResponse(worker=worker)

        return await self._wire.answer(context, request, produce, method="DrainWorker")

    async def GetPerformance(
        self, request: operations_service_pb2.GetPerformanceRequest, context: Context
    ) -> operations_service_pb2.GetPerformanceResponse:
        async def produce() -> operations_service_pb2.GetPerformanceResponse:
            return self._plane.performance

        return await self._wire.answer(context, request, produce, method="GetPerformance")

    async def ListLogReaders(
        self, request: operations_service_pb2.ListLogReadersRequest, context: Context
    ) -> operations_service_pb2.ListLogReadersResponse:
        async def produce() -> operations_service_pb2.ListLogReadersResponse:
            return operations_service_pb2.ListLogReadersResponse(readers=self._plane.log_readers)

        return await self._wire.answer(context, request, produce, method="ListLogReaders")

    async def ListDeliveries(
        self, request: operations_service_pb2.ListDeliveriesRequest, context: Context
    ) -> operations_service_pb2.ListDeliveriesResponse:
        async def produce() -> operations_service_pb2.ListDeliveriesResponse:
            if request.task_id:
                self._plane.get(request.task_id)
            found = [
                each
                for each in self._plane.deliveries
                if request.task_id in ("", each.task_id) and _fits(each, request.filter)
            ]
            return operations_service_pb2.ListDeliveriesResponse(deliveries=found)

        return await self._wire.answer(context, request, produce, method="ListDeliveries")

    async def ReplayDeliveries(
        self, request: operations_service_pb2.ReplayDeliveriesRequest, context: Context
    ) -> operations_service_pb2.ReplayDeliveriesResponse:
        async def produce() -> operations_service_pb2.ReplayDeliveriesResponse:
            found = [each for each in self._plane.deliveries if _is_selected(each, request)]
            for each in found:
                each.state = operations_service_pb2.DELIVERY_STATE_WAITING
            return operations_service_pb2.ReplayDeliveriesResponse(replayed=len(found))

        return await self._wire.answer(context, request, produce, method="ReplayDeliveries")


def _named(
    queues: Sequence[operations_service_pb2.Queue], name: str
) -> operations_service_pb2.Queue:
    for queue in queues:
        if queue.name == name:
            return queue
    raise NotFound(f"there is no queue {name}", reason="QUEUE_NOT_FOUND")


def _with_id(
    workers: Sequence[operations_service_pb2.Worker], worker_id: str
) -> operations_service_pb2.Worker:
    for worker in workers:
        if worker.id == worker_id:
            return worker
    raise NotFound(f"there is no worker {worker_id}", reason="WORKER_NOT_FOUND")


def _is_selected(
    delivery: operations_service_pb2.Delivery,
    request: operations_service_pb2.ReplayDeliveriesRequest,
) -> bool:
    match request.WhichOneof("selection"):
        case "delivery_id":
            return delivery.id == request.delivery_id
        case "task":
            wanted = request.task
            is_of_task = delivery.task_id == wanted.task_id
            return is_of_task and delivery.sequence >= wanted.from_sequence
        case _:
            dead = operations_service_pb2.DELIVERY_STATE_DEAD
            is_wanted = delivery.state == (request.filter.state or dead)
            return is_wanted and _fits(delivery, request.filter)


def _fits(
    delivery: operations_service_pb2.Delivery, wanted: operations_service_pb2.DeliveryFilter
) -> bool:
    created = delivery.create_time.ToMicroseconds()
    after, before = wanted.created_after, wanted.created_before
    return (
        wanted.state in (0, delivery.state)
        and wanted.url in ("", delivery.url)
        and (not wanted.HasField("created_after") or after.ToMicroseconds() <= created)
        and (not wanted.HasField("created_before") or created < before.ToMicroseconds())
    )
