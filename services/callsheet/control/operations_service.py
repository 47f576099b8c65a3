"""OperationsService: decode, one question, encode."""

from typing import Final

from callsheet.control.calls import Call
from callsheet.control.convert import delivery_to_proto, queue_to_proto, to_delivery_filter
from callsheet.control.validation import Validation
from callsheet.ledger.delivery_overview import DeliveryOverview, Replayed
from callsheet.ledger.overview import Overview
from callsheet.v1.operations_service_pb2 import (
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ListQueuesRequest,
    ListQueuesResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    ReplayDeliveriesRequest,
    ReplayDeliveriesResponse,
)

#: What the contract says of a page and a replay whose size is left out.
PAGE_SIZE: Final = 50
REPLAY_LIMIT: Final = 100


class OperationsService:
    """Serves callsheet.v1.OperationsService."""

    def __init__(
        self, overview: Overview, deliveries: DeliveryOverview, validation: Validation
    ) -> None:
        self._overview = overview
        self._deliveries = deliveries
        self._validation = validation

    async def ListQueues(self, request: ListQueuesRequest, call: Call) -> ListQueuesResponse:
        """Answer the queues of all task types."""
        queues = await self._overview.queues(call.principal)
        return ListQueuesResponse(queues=map(queue_to_proto, queues))

    async def ListWorkers(self, request: ListWorkersRequest, call: Call) -> ListWorkersResponse:
        """Answer the live workers."""
        return ListWorkersResponse(workers=await self._overview.workers(call.principal))

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
