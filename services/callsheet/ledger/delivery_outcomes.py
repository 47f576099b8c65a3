"""What is written of a delivery that was claimed, and what the script is told of that."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from callsheet.ledger.delivery_model import (
    DeliveryRecord,
    DeliveryState,
    Disabled,
    disabled_field,
    encode_record,
)
from callsheet.ledger.instants import span


class ClaimedDelivery(NamedTuple):
    """The head of a queue, under a lease; *time* is the ledger's when it was claimed."""

    record: DeliveryRecord
    line: str
    endpoint: str
    lease_expire: int
    time: datetime
    #: Stored facts of the task by their sequence: the first, and those around the delivery's own.
    facts: Mapping[int, bytes]
    #: Why its endpoint takes nothing any more. Empty: it does.
    disabled: str = ""
    #: Whether its circuit held it up for so long that it is given up.
    is_held: bool = False


class Frame(NamedTuple):
    """What the script is told of one outcome; that of an empty queue has only its first part."""

    task_id: str
    endpoint: str
    line: str
    lease_expire: int
    task_create_time: int = 0
    key: str = ""
    record: bytes = b""
    retry_delay: int | str = ""
    is_dead: bool = False
    is_forgotten: bool = False
    retention: int = 0
    answers: bool | None = None
    disabled_field: str = ""
    disables: bytes = b""


#: Whether an endpoint answers, as the script is told; None: it was not asked.
EVIDENCE: Final[Mapping[bool | None, str]] = {True: "+", False: "-", None: ""}


class SettledAs(NamedTuple):
    """What became of a claimed delivery, as `Deliveries.settle` is told."""

    claimed: ClaimedDelivery
    record: DeliveryRecord
    retry_delay: timedelta | None
    retention: timedelta
    answers: bool | None
    disables: str


def frame_of(outcome: SettledAs) -> Frame:
    """Return what the script is told of the outcome."""
    claimed, record = outcome.claimed, outcome.record
    disables = b""
    if outcome.disables:
        disables = Disabled(record.url, outcome.disables, claimed.time).encode()
    return Frame(
        record.task_id,
        claimed.endpoint,
        claimed.line,
        claimed.lease_expire,
        task_create_time=record.task_create_time,
        key=record.key,
        record=encode_record(record),
        retry_delay="" if outcome.retry_delay is None else span(outcome.retry_delay),
        is_dead=record.state is DeliveryState.DEAD,
        is_forgotten=record.signal is not None,
        retention=span(outcome.retention),
        answers=outcome.answers,
        disabled_field=disabled_field(record.project, claimed.endpoint),
        disables=disables,
    )
