"""Digests of facts: the same for what is stored and for what is watched."""

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.v1.task_event_pb2 import ContextRetrieved, TaskEvent

if TYPE_CHECKING:
    from google.protobuf.message import Message


def digest_of(event: EventRecord | TaskEvent) -> str:
    """Return the digest of a fact with its place and time.

    The same for what is stored and for what is watched: what a server adds for its reader (the
    task, the epoch, the time of a context) and the id of the write are left out.
    """
    arm = _arm(event)
    time = event.time if isinstance(event, EventRecord) else event.time.ToMicroseconds()
    told: Message = getattr(event, arm)
    if isinstance(told, ContextRetrieved):
        bare = ContextRetrieved()
        bare.CopyFrom(told)
        bare.context.ClearField("retrieve_time")
        told = bare
    head = f"{arm} {event.sequence} {time} "
    return sha256(head.encode() + told.SerializeToString(deterministic=True)).hexdigest()[:16]


def digest_of_text(parts: Iterable[str]) -> str:
    """Return a short digest of texts, for whatever has to be compared and not read."""
    return sha256("\0".join(parts).encode()).hexdigest()[:16]


def _arm(event: EventRecord | TaskEvent) -> str:
    found = (
        event.WhichOneof("fact") if isinstance(event, EventRecord) else event.WhichOneof("event")
    )
    return found or ""
