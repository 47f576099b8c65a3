"""Deliveries: the durable queues between the log and the endpoints of webhooks.

One queue for each task and endpoint, in order; its head is claimed under a lease by any sidecar.
Endpoints of one origin share a line of due queues, so that a slow origin holds up nobody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Final, cast

from callsheet.internal.v1 import delivery_pb2
from callsheet.ledger.delivery_scripts import (
    CLAIM_DUE,
    DUE_ORIGINS,
    FORGET,
    HEADS,
    RECORD,
    SETTLE,
)
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, microseconds, span
from callsheet.ledger.redis_connection import RedisConnection, Word
from callsheet.ledger.redis_scripts import DUE
from callsheet.v1 import operations_service_pb2

VERSION: Final = 1


class DeliveryState(Enum):
    """Where a delivery is in its life."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


_STATE_TO_PROTO: Final = {
    state: operations_service_pb2.DeliveryState.Value(f"DELIVERY_STATE_{state.value}")
    for state in DeliveryState
}
_STATE_FROM_PROTO: Final = {number: state for state, number in _STATE_TO_PROTO.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One event on its way to one endpoint."""

    task_id: str
    #: The sequence of the fact it tells of.
    sequence: int
    epoch: str
    url: str
    create_time: datetime
    state: DeliveryState = DeliveryState.WAITING
    #: How many tries were made.
    tries: int = 0
    #: When the next try is due. None: there is none.
    next_try_time: datetime | None = None
    #: The HTTP status of the last try. Zero: none was answered.
    last_status: int = 0
    #: Why the last try failed. Empty: it did not, or there was none.
    last_error: str = ""
    #: When it was delivered or given up. None: neither.
    end_time: datetime | None = None

    @property
    def id(self) -> str:
        """The webhook-id: stable over all tries."""
        return f"{self.epoch}_{self.task_id}_{self.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A wish to deliver a fact to an endpoint; *origin* is the line it waits in."""

    task_id: str
    sequence: int
    url: str
    origin: str
    #: Whether it must be delivered; if not, it gives way to a newer one that is recorded before.
    must_arrive: bool = True


@dataclass(frozen=True, slots=True)
class LogStep:
    """A step of a leased reader through the log, from one position to the next, in one epoch."""

    role: str
    holder: str
    reader: str
    epoch: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class DueOrigins:
    """Origins with due deliveries, longest due first, and how long until the next one is."""

    origins: tuple[str, ...]
    next_due: timedelta | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """The head of a queue, under a lease; *time* is the ledger's when it was claimed."""

    record: DeliveryRecord
    origin: str
    endpoint: str
    lease_expire: int
    time: datetime


@dataclass(frozen=True, slots=True)
class ClaimedHeads:
    """What a claim took, and how many it took that a newer version must have written.

    Those stay as they are until their lease runs out: another sidecar may know them.
    """

    deliveries: tuple[ClaimedDelivery, ...]
    unreadable: int


class Deliveries:
    """Keeps the delivery queues of a cell. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def of_task(self, task_id: str) -> list[DeliveryRecord]:
        """Return the task's deliveries, oldest fact first; none for an unknown task."""
        reply = await self._connection.command("HGETALL", self._keys.deliveries(task_id))
        fields = cast("dict[bytes, bytes]", reply)
        records = [_decode(content) for field, content in fields.items() if b"/" in field]
        return sorted(records, key=lambda record: (record.sequence, record.url))

    async def record(self, deliveries: Sequence[NewDelivery], step: LogStep) -> int | None:
        """Record what a step through the log found, and move the reader's cursor, atomically.

        Return how many were new; what was recorded before is passed over. None: the role, the
        cursor or the epoch is another by now, and nothing was changed.
        """
        names: dict[str, int] = {
            self._keys.hold(step.role): 1,
            self._keys.cursors: 2,
            self._keys.epoch: 3,
            self._keys.delivery_origins: 4,
            self._keys.delivery_leases: 5,
        }
        arguments: list[Word] = [step.holder, step.reader, step.before, step.after, step.epoch]
        arguments.append(len(deliveries))
        for new in deliveries:
            arguments += (
                names.setdefault(self._keys.deliveries(new.task_id), len(names) + 1),
                names.setdefault(self._keys.deliveries_due(new.origin), len(names) + 1),
                new.origin,
                new.task_id,
                _endpoint(new.url),
                new.sequence,
                "!" if new.must_arrive else "",
                _encode_new(new, epoch=step.epoch),
            )
        recorded = await self._connection.number(RECORD, list(names), arguments)
        return None if recorded < 0 else recorded

    async def due(self, *, limit: int) -> DueOrigins:
        """Return the origins that have due deliveries now."""
        reply = await self._connection.script(DUE_ORIGINS, [self._keys.delivery_origins], [limit])
        now, later, origins = cast("tuple[bytes, bytes, list[bytes]]", reply)
        wait = timedelta(microseconds=float(later) - float(now)) if later else None
        return DueOrigins(tuple(origin.decode() for origin in origins), wait)

    async def claim(self, most: Mapping[str, int], *, lease: timedelta) -> ClaimedHeads:
        """Take heads that are due, at most so many of each origin, under a lease."""
        origins = list(most)
        places = [self._keys.delivery_origins, self._keys.delivery_leases]
        places += (self._keys.deliveries_due(origin) for origin in origins)
        arguments: list[Word] = [span(lease)]
        for origin in origins:
            arguments += (origin, most[origin])
        reply = await self._connection.script(CLAIM_DUE, places, arguments)
        time, expire, taken = cast("tuple[bytes, bytes, list[tuple[int, bytes]]]", reply)
        queues = [(origins[index - 1], *_parse_member(member)) for index, member in taken]
        heads = await self._heads([(task_id, endpoint) for _, task_id, endpoint in queues])
        claimed: list[ClaimedDelivery] = []
        for (origin, _, endpoint), head in zip(queues, heads, strict=True):
            try:
                record = _decode(head)
            except UnknownVersion:
                continue
            claimed.append(
                ClaimedDelivery(record, origin, endpoint, int(expire), instant(int(time)))
            )
        return ClaimedHeads(tuple(claimed), len(queues) - len(claimed))

    async def settle(
        self,
        claimed: ClaimedDelivery,
        record: DeliveryRecord,
        *,
        retry_delay: timedelta | None,
        retention: timedelta,
    ) -> bool:
        """Write what became of a head and give its lease back.

        Without a *retry_delay* the delivery has ended, and is kept for *retention*. False: the
        lease was lost to another sidecar, whose word counts; nothing was changed.
        """
        places = [
            self._keys.deliveries(record.task_id),
            self._keys.deliveries_due(claimed.origin),
            self._keys.delivery_origins,
            self._keys.delivery_leases,
            self._keys.delivery_ended,
        ]
        arguments: list[Word] = [
            claimed.origin,
            record.task_id,
            claimed.endpoint,
            record.sequence,
            claimed.lease_expire,
            _encode(record),
            "" if retry_delay is None else span(retry_delay),
            span(retention),
        ]
        return await self._connection.number(SETTLE, places, arguments) == 1

    async def forget(self, *, limit: int) -> int:
        """Forget the deliveries of up to *limit* tasks whose time is over; answer how many went."""
        reply = await self._connection.script(DUE, [self._keys.delivery_ended], [limit])
        _, found = cast("tuple[bytes, list[bytes]]", reply)
        if not found:
            return 0
        task_ids = [task_id.decode() for task_id in found]
        places = [self._keys.delivery_ended, *map(self._keys.deliveries, task_ids)]
        return await self._connection.number(FORGET, places, task_ids)

    async def _heads(self, queues: Sequence[tuple[str, str]]) -> list[bytes]:
        if not queues:
            return []
        places = [self._keys.deliveries(task_id) for task_id, _ in queues]
        endpoints = [endpoint for _, endpoint in queues]
        return cast("list[bytes]", await self._connection.script(HEADS, places, endpoints))


def _endpoint(url: str) -> str:
    """Return a URL's short name; a task has few endpoints, so that 64 bits never clash."""
    return sha256(url.encode()).hexdigest()[:16]


def _parse_member(member: bytes) -> tuple[str, str]:
    task_id, _, endpoint = member.decode().rpartition("/")
    return task_id, endpoint


def _encode_new(new: NewDelivery, *, epoch: str) -> bytes:
    return delivery_pb2.DeliveryRecord(
        version=VERSION,
        task_id=new.task_id,
        sequence=new.sequence,
        epoch=epoch,
        url=new.url,
        state=_STATE_TO_PROTO[DeliveryState.WAITING],
    ).SerializeToString()


def _encode(record: DeliveryRecord) -> bytes:
    """Return the record but for the times that the script stamps."""
    return delivery_pb2.DeliveryRecord(
        version=VERSION,
        create_time=microseconds(record.create_time),
        task_id=record.task_id,
        sequence=record.sequence,
        epoch=record.epoch,
        url=record.url,
        state=_STATE_TO_PROTO[record.state],
        tries=record.tries,
        last_status=record.last_status,
        last_error=record.last_error,
    ).SerializeToString()


def _decode(content: bytes) -> DeliveryRecord:
    record = delivery_pb2.DeliveryRecord.FromString(content)
    if record.version != VERSION or record.state not in _STATE_FROM_PROTO:
        raise UnknownVersion("delivery", record.version)
    return DeliveryRecord(
        task_id=record.task_id,
        sequence=record.sequence,
        epoch=record.epoch,
        url=record.url,
        create_time=instant(record.create_time),
        state=_STATE_FROM_PROTO[record.state],
        tries=record.tries,
        next_try_time=instant(record.next_try_time) if record.next_try_time else None,
        last_status=record.last_status,
        last_error=record.last_error,
        end_time=instant(record.end_time) if record.end_time else None,
    )
