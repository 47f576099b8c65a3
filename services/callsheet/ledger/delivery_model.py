"""What a delivery is, and the bytes it is kept as."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, cast

from callsheet.internal.v1 import delivery_pb2
from callsheet.internal.v1.record_pb2 import SignalRecord
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.unreadable import loudly
from callsheet.v1 import operations_service_pb2

VERSION: Final = 1


class DeliveryState(Enum):
    """Where a delivery is in its life."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


STATE_TO_PROTO: Final = {
    state: operations_service_pb2.DeliveryState.Value(f"DELIVERY_STATE_{state.value}")
    for state in DeliveryState
}
STATE_FROM_PROTO: Final = {number: state for state, number in STATE_TO_PROTO.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One event on its way to one endpoint."""

    task_id: str
    #: The sequence of the fact it tells of; of a signal's delivery, that of the last fact before.
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
    project: str = ""
    #: What it tells: the word that the body has.
    event: str = ""
    #: The line it waits in.
    line: str = ""
    #: When its task was accepted, in microseconds: tells it from an earlier one of the same id.
    task_create_time: int = 0
    #: The last sequence whose facts the body may tell of. Zero: its own.
    as_of: int = 0
    #: The progress it tells of. None: it tells of a fact.
    signal: SignalRecord | None = None

    @property
    def key(self) -> str:
        """What tells it from other deliveries of the task: a sequence, and a signal's time."""
        return delivery_key(self.sequence, None if self.signal is None else self.signal.time)

    @property
    def id(self) -> str:
        """The webhook-id: stable over all tries and replays."""
        return f"{self.epoch}_{self.task_id}_{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A wish to deliver a fact, or the progress of a *signal*, to an endpoint of a task."""

    task_id: str
    task_create_time: int
    project: str
    sequence: int
    url: str
    #: The line it waits in.
    line: str
    event: str = ""
    #: Whether it must be delivered; if not, it gives way to a newer one that is recorded before.
    must_arrive: bool = True
    as_of: int = 0
    signal: SignalRecord | None = None

    @property
    def key(self) -> str:
        """What tells it from other deliveries of the task."""
        return delivery_key(self.sequence, None if self.signal is None else self.signal.time)


def delivery_key(sequence: int, signal_time: int | None = None) -> str:
    """Return what names a fact's delivery among its task's, or that of a signal of that time."""
    return str(sequence) if signal_time is None else f"{sequence}-{signal_time}"


class Disabled(NamedTuple):
    """An endpoint that takes nothing any more, since when and why."""

    url: str
    reason: str
    time: datetime

    def encode(self) -> bytes:
        """Return what is kept of it."""
        time = microseconds(self.time)
        return json.dumps({"url": self.url, "reason": self.reason, "time": time}).encode()

    @classmethod
    def parse(cls, content: bytes) -> "Disabled":
        """Return what is kept."""
        kept = cast("dict[str, str | int]", json.loads(content))
        return cls(str(kept["url"]), str(kept["reason"]), instant(int(kept["time"])))


def disabled_field(project: str, endpoint: str) -> str:
    """Return where it is kept that a project's endpoint is disabled."""
    return f"{project}/{endpoint}"


@lru_cache(maxsize=4096)
def endpoint_of(url: str) -> str:
    """Return a URL's short name; a task has few endpoints, so that 64 bits never clash."""
    return sha256(url.encode()).hexdigest()[:16]


def line_of(project: str, endpoint: str) -> str:
    """Return the line in which a project's deliveries to an endpoint (origin and path) wait."""
    return f"{project}/{endpoint}"


def parse_line(line: str) -> tuple[str, str]:
    """Return (project, endpoint) of a line; the name of a project has no slash."""
    project, _, endpoint = line.partition("/")
    return project, endpoint


def encode_new(new: NewDelivery, *, epoch: str) -> bytes:
    """Return the record of a new delivery, but for the times that the script stamps."""
    return delivery_pb2.DeliveryRecord(
        version=VERSION,
        task_id=new.task_id,
        sequence=new.sequence,
        epoch=epoch,
        url=new.url,
        state=STATE_TO_PROTO[DeliveryState.WAITING],
        project=new.project,
        event=new.event,
        line=new.line,
        task_create_time=new.task_create_time,
        as_of=new.as_of,
        signal=new.signal,
    ).SerializeToString()


def encode_record(record: DeliveryRecord) -> bytes:
    """Return the record but for the times that the script stamps anew."""
    return delivery_pb2.DeliveryRecord(
        version=VERSION,
        create_time=microseconds(record.create_time),
        task_id=record.task_id,
        sequence=record.sequence,
        epoch=record.epoch,
        url=record.url,
        state=STATE_TO_PROTO[record.state],
        tries=record.tries,
        last_status=record.last_status,
        last_error=record.last_error,
        project=record.project,
        event=record.event,
        line=record.line,
        task_create_time=record.task_create_time,
        as_of=record.as_of,
        signal=record.signal,
    ).SerializeToString()


@loudly("delivery")
def decode_record(content: bytes) -> DeliveryRecord:
    """Return the delivery that a stored record tells of. Raises UnknownVersion."""
    record = delivery_pb2.DeliveryRecord.FromString(content)
    if record.version != VERSION or record.state not in STATE_FROM_PROTO:
        raise UnknownVersion("delivery", record.version)
    return DeliveryRecord(
        task_id=record.task_id,
        sequence=record.sequence,
        epoch=record.epoch,
        url=record.url,
        create_time=instant(record.create_time),
        state=STATE_FROM_PROTO[record.state],
        tries=record.tries,
        next_try_time=instant(record.next_try_time) if record.next_try_time else None,
        last_status=record.last_status,
        last_error=record.last_error,
        end_time=instant(record.end_time) if record.end_time else None,
        project=record.project,
        event=record.event,
        line=record.line,
        task_create_time=record.task_create_time,
        as_of=record.as_of,
        signal=record.signal if record.HasField("signal") else None,
    )
