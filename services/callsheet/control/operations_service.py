"""OperationsService: decode, one question, encode."""

from typing import Final

from callsheet.control.calls import Call
from callsheet.control.convert import delivery_to_proto, queue_to_proto, to_delivery_filter
from callsheet.control.performance import WINDOWS, performance_to_proto
from callsheet.control.validation import Validation
from callsheet.ledger.delivery_overview import DeliveryOverview, Replayed
from callsheet.ledger.log_readers import LogReaders
from callsheet.ledger.overview import Overview
from callsheet.ledger.performance import Performance
from callsheet.ledger.registry import Wish
from callsheet.v1.operations_service_pb2 import (
    DrainWorkerRequest,
    DrainWorkerResponse,
    GetPerformanceRequest,
    GetPerformanceResponse,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ListLogReadersRequest,
    ListLogReadersResponse,
    ListQueuesRequest,
    ListQueuesResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    PauseQueueRequest,
    PauseQueueResponse,
    PauseWorkerRequest,
    PauseWorkerResponse,
    ReplayDeliveriesRequest,
    ReplayDeliveriesResponse,
    ResumeQueueRequest,
    ResumeQueueResponse,
    ResumeWorkerRequest,
    ResumeWorkerResponse,
)

#: What the contract says of a page and a replay whose size is left out.
PAGE_SIZE: Final = 50
REPLAY_LIMIT: Final = 100


class OperationsService:
    """Serves callsheet.v1.OperationsService."""

    def __init__(
        self,
        overview: Overview,
        deliveries: DeliveryOverview,
        validation: Validation,
        *,
        performance: Performance,
        readers: LogReaders,
    ) -> None:
        self._overview = overview
        self._deliveries = deliveries
        self._validation = validation
        self._performance = performance
        self._readers = readers

    async def ListQueues(self, request: ListQueuesRequest, call: Call) -> ListQueuesResponse:
        """Answer the queues of all task types."""
        queues = await self._overview.queues(call.principal)
        return ListQueuesResponse(queues=map(queue_to_proto, queues))

    async def ListWorkers(self, request: ListWorkersRequest, call: Call) -> ListWorkersResponse:
        """Answer the live workers."""
        return ListWorkersResponse(workers=await self._overview.workers(call.principal))

    async def PauseQueue(self, request: PauseQueueRequest, call: Call) -> PauseQueueResponse:
        """Let nobody claim tasks of a queue."""
        self._validation.check(request)
        queue = await self._overview.pause_queue(call.principal, request.queue)
        return PauseQueueResponse(queue=queue_to_proto(queue))

    async def ResumeQueue(self, request: ResumeQueueRequest, call: Call) -> ResumeQueueResponse:
        """Let tasks of a queue be claimed again."""
        self._validation.check(request)
        queue = await self._overview.resume_queue(call.principal, request.queue)
        return ResumeQueueResponse(queue=queue_to_proto(queue))

    async def PauseWorker(self, request: PauseWorkerRequest, call: Call) -> PauseWorkerResponse:
        """Ask a worker to claim nothing."""
        self._validation.check(request)
        worker = await self._overview.wish(call.principal, request.worker_id, Wish.PAUSE)
        return PauseWorkerResponse(worker=worker)

    async def ResumeWorker(self, request: ResumeWorkerRequest, call: Call) -> ResumeWorkerResponse:
        """Ask a worker to claim again."""
        self._validation.check(request)
        worker = await self._overview.wish(call.principal, request.worker_id, None)
        return ResumeWorkerResponse(worker=worker)

    async def DrainWorker(self, request: DrainWorkerRequest, call: Call) -> DrainWorkerResponse:
        """Ask a worker to end when nothing runs in it any more."""
        self._validation.check(request)
        worker = await self._overview.wish(call.principal, request.worker_id, Wish.DRAIN)
        return DrainWorkerResponse(worker=worker)

    async def GetPerformance(
        self, request: GetPerformanceRequest, call: Call
    ) -> GetPerformanceResponse:
        """Answer how tasks fared of late."""
        self._validation.check(request)
        report = await self._performance.report(
            call.principal, project=request.project, window=WINDOWS[request.window]
        )
        return performance_to_proto(report)

    async def ListLogReaders(
        self, request: ListLogReadersRequest, call: Call
    ) -> ListLogReadersResponse:
        """Answer the durable readers of the log."""
        self._validation.check(request)
        readers = await self._readers.all(call.principal, task_id=request.task_id.lower())
        return ListLogReadersResponse(readers=readers)

    async def ListDeliveries(
        self, request: ListDeliveriesRequest, call: Call
    ) -> ListDeliveriesResponse:
        """Answer a page of the webhook deliveries of a task or a project."""
        self._validation.check(request)
        wanted = to_delivery_filter(request.filter)
        size, token = request.page_size or PAGE_SIZE, request.page_token
        if request.task_id:
            page = await self._deliveries.page_of_task(
                call.principal, request.task_id.lower(), wanted, size=size, token=token
            )
        else:
            page = await self._deliveries.page(call.principal, wanted, size=size, token=token)
        return ListDeliveriesResponse(
            deliveries=map(delivery_to_proto, page.deliveries), next_page_token=page.next_token
        )

    async def ReplayDeliveries(
        self, request: ReplayDeliveriesRequest, call: Call
    ) -> ReplayDeliveriesResponse:
        """Answer how many deliveries will be made once more."""
        self._validation.check(request)
        replayed = await self._replayed(request, call)
        return ReplayDeliveriesResponse(
            replayed=replayed.count, next_page_token=replayed.next_token
        )

    async def _replayed(self, request: ReplayDeliveriesRequest, call: Call) -> Replayed:
        limit, token = request.limit or REPLAY_LIMIT, request.page_token
        match request.WhichOneof("selection"):
            case "delivery_id":
                return await self._deliveries.replay_one(call.principal, request.delivery_id)
            case "task":
                return await self._deliveries.replay_task(
                    call.principal,
                    request.task.task_id.lower(),
                    from_sequence=request.task.from_sequence,
                    limit=limit,
                    token=token,
                )
            case _:  # validation lets nothing else through than a filter
                return await self._deliveries.replay_matching(
                    call.principal, to_delivery_filter(request.filter), limit=limit, token=token
                )
