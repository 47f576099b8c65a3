"""OperationsService: decode, one question, encode."""

from callsheet.control.calls import Call
from callsheet.control.convert import delivery_to_proto, queue_to_proto
from callsheet.control.validation import Validation
from callsheet.ledger.access import Role
from callsheet.ledger.deliveries import Deliveries
from callsheet.ledger.overview import Overview
from callsheet.v1.operations_service_pb2 import (
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ListQueuesRequest,
    ListQueuesResponse,
    ListWorkersRequest,
    ListWorkersResponse,
)


class OperationsService:
    """Serves callsheet.v1.OperationsService."""

    def __init__(self, overview: Overview, deliveries: Deliveries, validation: Validation) -> None:
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
        """Answer the webhook deliveries of a task."""
        call.principal.require(Role.OPERATE)
        self._validation.check(request)
        records = await self._deliveries.of_task(request.task_id.lower())
        return ListDeliveriesResponse(deliveries=map(delivery_to_proto, records))
