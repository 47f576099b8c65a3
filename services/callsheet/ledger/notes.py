"""Facts that move no task but say something of it, as records: what is known, saved, registered."""

from typing import assert_never

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.events import CheckpointSaved, ContextRetrieved, MediaRegistered
from callsheet.ledger.messages import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    context_from_proto,
    context_to_proto,
    media_from_proto,
    media_to_proto,
)

Note = ContextRetrieved | CheckpointSaved | MediaRegistered


def write_note(record: EventRecord, note: Note) -> None:
    """Write what the fact tells into its record."""
    match note:
        case ContextRetrieved(attempt, context):
            record.context_retrieved.attempt = attempt
            record.context_retrieved.context.CopyFrom(context_to_proto(context))
        case CheckpointSaved(attempt, checkpoint):
            record.checkpoint_saved.attempt = attempt
            record.checkpoint_saved.checkpoint.CopyFrom(checkpoint_to_proto(checkpoint))
        case MediaRegistered(media):
            record.media_registered.media.extend(media_to_proto(media))
        case _:
            assert_never(note)


def note_of(record: EventRecord) -> Note:
    """Return the fact that a record tells of. Raises UnknownVersion."""
    match record.WhichOneof("fact"):
        case "context_retrieved":
            retrieved = record.context_retrieved
            return ContextRetrieved(retrieved.attempt, context_from_proto(retrieved.context))
        case "checkpoint_saved":
            saved = record.checkpoint_saved
            return CheckpointSaved(saved.attempt, checkpoint_from_proto(saved.checkpoint))
        case "media_registered":
            return MediaRegistered(media_from_proto(record.media_registered.media))
        case _:
            raise UnknownVersion("event", record.version)
