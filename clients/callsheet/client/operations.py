"""What operators ask: queues, workers, and the deliveries of webhooks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.v1 import operations_service_pb2 as operations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Unpack

    from callsheet.client.connection import Connection

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


class AsyncOperations:
    """The operators' side of the client; every call needs the role operate."""

    def __init__(self, connection: Connection, *, project: str, timeout: timedelta) -> None:
        self._connection = connection
        self._project = project
        self._timeout = timeout

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
