"""What a worker with nothing to do offers: to take the next task in the commit that submits it.

An offer spares that task its claim: one round trip and one fsync. It stands while nothing is ready,
for a short time, and for one task; the next claim of the worker withdraws it.
"""

import struct
from datetime import timedelta
from itertools import pairwise
from typing import Final

from callsheet.ledger.codec import parse_event
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import span
from callsheet.ledger.store import Offering, Stored

_OFFER: Final = struct.Struct("<QQH")
_TOLD: Final = struct.Struct("<HII")


def offer_record(keys: Keys, offering: Offering, *, lease: timedelta) -> bytes:
    """Return what the commit script needs to start an attempt for the worker."""
    channel = keys.handed(offering.worker).encode()
    fixed = _OFFER.pack(offering.operation, span(lease), len(channel))
    return fixed + channel + offering.template


def told_record(stored: Stored) -> bytes:
    """Return what a worker is told of a task that was handed to it."""
    task_id = stored.task_id.encode()
    fixed = _TOLD.pack(len(task_id), len(stored.record), len(stored.first))
    return fixed + task_id + stored.record + stored.first + stored.last


def parse_told(content: bytes) -> Stored:
    """Return the task that was handed over, just started. Raises UnknownVersion."""
    ends = [_TOLD.size]
    for length in _TOLD.unpack_from(content):
        ends.append(ends[-1] + length)
    task_id, record, first = (content[a:b] for a, b in pairwise(ends))
    event = content[ends[-1] :]
    return Stored(task_id.decode(), parse_event(event).sequence, record, first, event)
