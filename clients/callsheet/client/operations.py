"""What operators ask: queues, workers, performance, and the deliveries of webhooks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client.calls import AsyncCalls
from callsheet.v1 import operations_service_pb2 as operations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime
    from typing import Unpack

#: Where a delivery is in its life.
DeliveryWord: TypeAlias = Literal["waiting", "delivered", "dead"]

#: The contract's words for it.
DELIVERY_STATES: Final[Mapping[DeliveryWord, operations.DeliveryState.ValueType]] = (
    MappingProxyType(
        {
            "waiting": operations.DELIVERY_STATE_WAITING,
            "delivered": operations.DELIVERY_STATE_DELIVERED,
            "dead": operations.DELIVERY_STATE_DEAD,
        }
    )
)

#: A stretch of time that ends now.
WindowWord: TypeAlias = Literal["hour", "day"]

#: The contract's words for it.
WINDOWS: Final[Mapping[WindowWord, operations.PerformanceWindow.ValueType]] = MappingProxyType(
    {
        "hour": operations.PERFORMANCE_WINDOW_HOUR,
        "day": operations.PERFORMANCE_WINDOW_DAY,
    }
)

#: Deliveries of one call that lists, and of one that replays: the most that the contract allows.
_LISTED: Final = 200
_REPLAYED: Final = 1000


class DeliveryOptions(TypedDict, total=False):
    """Which deliveries are meant; what is left out means any."""

    #: The project. Left out: the client's, or the key's only one.
    project: str
    #: Where they are in their life.
    state: DeliveryWord
    #: The endpoint's whole URL.
    url: str
    #: Recorded then or later; must be aware.
    created_after: datetime
    #: Recorded before; must be aware.
    created_before: datetime


class AsyncOperations(AsyncCalls):
    """The operators' side of the client; every call needs the role operate."""

    async def queues(self) -> Sequence[operations.Queue]:
        """Return the queues of all task types, by name."""
        response = await self._connection.call(
            self._connection.operations.ListQueues,
            operations.ListQueuesRequest(),
            timeout=self._timeout,
        )
        return response.queues

    async def workers(self) -> Sequence[operations.Worker]:
        """Return the live workers, by id."""
        response = await self._connection.call(
            self._connection.operations.ListWorkers,
            operations.ListWorkersRequest(),
            timeout=self._timeout,
        )
        return response.workers

    async def pause_queue(self, queue: str) -> operations.Queue:
        """Let no worker claim tasks of a queue any more; return the queue. Raises CallError."""
        response = await self._connection.call(
            self._connection.operations.PauseQueue,
            operations.PauseQueueRequest(queue=queue),
            timeout=self._timeout,
        )
        return response.queue

    async def resume_queue(self, queue: str) -> operations.Queue:
        """Let workers claim tasks of a queue again; return the queue. Raises CallError."""
        response = await self._connection.call(
            self._connection.operations.ResumeQueue,
            operations.ResumeQueueRequest(queue=queue),
            timeout=self._timeout,
        )
        return response.queue

    async def pause_worker(self, worker_id: str) -> operations.Worker:
        """Ask a worker to claim no more tasks; return it as it was last heard of.

        Raises CallError.
        """
        response = await self._connection.call(
            self._connection.operations.PauseWorker,
            operations.PauseWorkerRequest(worker_id=worker_id),
            timeout=self._timeout,
        )
        return response.worker

    async def resume_worker(self, worker_id: str) -> operations.Worker:
        """Ask a worker to claim tasks again; return it as it was last heard of.

        Raises CallError.
        """
        response = await self._connection.call(
            self._connection.operations.ResumeWorker,
            operations.ResumeWorkerRequest(worker_id=worker_id),
            timeout=self._timeout,
        )
        return response.worker

    async def drain_worker(self, worker_id: str) -> operations.Worker:
        """Ask a worker to let what it runs end, and then to end itself; return it as last heard of.

        Raises CallError.
        """
        response = await self._connection.call(
            self._connection.operations.DrainWorker,
            operations.DrainWorkerRequest(worker_id=worker_id),
            timeout=self._timeout,
        )
        return response.worker

    async def performance(
        self, *, window: WindowWord = "hour", project: str = ""
    ) -> operations.GetPerformanceResponse:
        """Return how tasks fared of late, by task type and by queue, in total and over time.

        Without a ``project`` those of all projects are counted. Raises CallError.
        """
        return await self._connection.call(
            self._connection.operations.GetPerformance,
            operations.GetPerformanceRequest(project=project, window=WINDOWS[window]),
            timeout=self._timeout,
        )

    async def log_readers(self, *, task_id: str = "") -> Sequence[operations.LogReader]:
        """Return the durable readers of the log, by name.

        With a task they also tell how far they are with it. Raises TaskNotFound, CallError.
        """
        response = await self._connection.call(
            self._connection.operations.ListLogReaders,
            operations.ListLogReadersRequest(task_id=task_id),
            timeout=self._timeout,
        )
        return response.readers

    async def deliveries(self, task_id: str) -> Sequence[operations.Delivery]:
        """Return the webhook deliveries of a task, oldest first. Raises TaskNotFound, CallError."""
        return [each async for each in self.list_deliveries(task_id=task_id)]

    async def list_deliveries(
        self, *, task_id: str = "", **wanted: Unpack[DeliveryOptions]
    ) -> AsyncGenerator[operations.Delivery, None]:
        """Yield deliveries of a project, newest first, or of a task, oldest first, page by page.

        Raises TaskNotFound, CallError; ValueError when a time is not aware.
        """
        request = operations.ListDeliveriesRequest(
            task_id=task_id,
            # A task says itself whose it is.
            filter=_filter(wanted, project="" if task_id else self._project),
            page_size=_LISTED,
        )
        while True:
            page = await self._connection.call(
                self._connection.operations.ListDeliveries, request, timeout=self._timeout
            )
            for delivery in page.deliveries:
                yield delivery
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def replay_deliveries(
        self,
        *,
        delivery_id: str = "",
        task_id: str = "",
        from_sequence: int = 0,
        limit: int | None = None,
        **wanted: Unpack[DeliveryOptions],
    ) -> int:
        """Have deliveries made once more, under the same webhook-id; return how many will be.

        They are the one with ``delivery_id``, those of ``task_id`` from a sequence on, or those of
        a project that fit the rest: without a ``state`` the dead ones. What still waits is tried at
        once. At most ``limit`` are replayed; None: all.

        Raises DeliveryNotFound and TaskNotFound as NotFound, CallError; ValueError for more than
        one selection, or a time that is not aware.
        """
        if bool(delivery_id) + bool(task_id) + bool(wanted) > 1:
            raise ValueError("name a delivery, a task, or what deliveries must fit: only one")
        request = operations.ReplayDeliveriesRequest()
        if delivery_id:
            request.delivery_id = delivery_id
        elif task_id:
            request.task.task_id, request.task.from_sequence = task_id, from_sequence
        else:
            request.filter.CopyFrom(_filter(wanted, project=self._project))
        return await self._replay(request, limit)

    async def _replay(self, request: operations.ReplayDeliveriesRequest, limit: int | None) -> int:
        replayed = asked = 0
        while limit is None or asked < limit:
            request.limit = _REPLAYED if limit is None else min(_REPLAYED, limit - asked)
            asked += request.limit
            response = await self._connection.call(
                self._connection.operations.ReplayDeliveries, request, timeout=self._timeout
            )
            replayed += response.replayed
            if not response.next_page_token:
                break
            request.page_token = response.next_page_token
        return replayed


def _filter(wanted: DeliveryOptions, *, project: str) -> operations.DeliveryFilter:
    found = operations.DeliveryFilter(
        project=wanted.get("project") or project, url=wanted.get("url", "")
    )
    if "state" in wanted:
        found.state = DELIVERY_STATES[wanted["state"]]
    if "created_after" in wanted:
        found.created_after.CopyFrom(_timestamp(wanted["created_after"]))
    if "created_before" in wanted:
        found.created_before.CopyFrom(_timestamp(wanted["created_before"]))
    return found


def _timestamp(moment: datetime) -> Timestamp:
    if moment.tzinfo is None:
        raise ValueError("a time must be aware: say of which zone it is")
    message = Timestamp()
    message.FromDatetime(moment)
    return message
