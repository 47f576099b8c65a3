"""The body of a webhook, made from a task's facts alone: the same facts make the same bytes."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.message import Message

from callsheet.artifacts.references import media_in, unpacked
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.ledger.instants import instant
from callsheet.ledger.messages import failure_from_proto
from callsheet.ledger.model import FailureReason
from callsheet.v1 import task_pb2

#: What receivers call where a task is, by what a webhook tells.
_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "task_submitted": "queued",
        "attempt_started": "processing",
        "attempt_failed": "queued",
        "attempt_returned": "queued",
        "cancel_requested": "processing",
        "task_succeeded": "completed",
        "task_failed": "failed",
        "task_cancelled": "failed",
    }
)

Json: TypeAlias = Mapping[str, object]


class FactsGone(Exception):
    """The facts that the delivery tells of are no longer kept."""


class Story(NamedTuple):
    """What a webhook tells: a task's first fact, the fact itself, and its attempt's start.

    *media* is what was registered of its artifacts.
    """

    first: EventRecord
    fact: EventRecord
    started: EventRecord | None
    media: tuple[task_pb2.RegisteredMedia, ...]


def story_of(record: DeliveryRecord, facts: Mapping[int, bytes]) -> Story:
    """Return what a delivery tells, from stored facts by their sequence.

    Raises:
        FactsGone: they were pruned, or are of another task by now.
        UnknownVersion: a newer version wrote one.
    """
    first, fact = facts.get(1), facts.get(record.sequence)
    if first is None or fact is None:
        raise FactsGone
    start = parse_event(first)
    if start.time != record.task_create_time:
        raise FactsGone
    told = parse_event(fact)
    media: list[task_pb2.RegisteredMedia] = []
    for sequence in range(record.sequence + 1, record.as_of + 1):
        if sequence in facts:
            media += parse_event(facts[sequence]).media_registered.media
    return Story(start, told, _started(record.sequence, told, facts), tuple(media))


def body_of(record: DeliveryRecord, story: Story) -> bytes:
    """Return the body that tells the story.

    Raises:
        ValueError: nobody is told of such a fact, or its output is of a type not known here.
    """
    fact = story.fact
    name = fact.WhichOneof("fact") or ""
    signal = record.signal
    status = _STATUS.get(name) if signal is None else "processing"
    if status is None:
        raise ValueError(f"nobody is told of the fact {name!r}")
    submitted = story.first.task_submitted
    started = story.started
    attempt = 0 if started is None else started.attempt_started.attempt
    body: dict[str, object] = {
        "task_id": record.task_id,
        "status": status,
        "project_id": submitted.project,
        "result": _result(story) if name == "task_succeeded" and signal is None else None,
        "error": _error(fact) if signal is None else None,
        "metadata": dict(sorted(submitted.metadata.items())),
        "event": record.event,
        "sequence": record.sequence,
        "attempt": attempt if signal is None else signal.attempt,
        "occurred_at": _text(fact.time if signal is None else signal.time),
    }
    if signal is not None:
        body["progress"] = _progress(signal.progress)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _started(sequence: int, fact: EventRecord, facts: Mapping[int, bytes]) -> EventRecord | None:
    """Return the start of the last attempt before, or at, the fact."""
    if fact.HasField("attempt_started"):
        return fact
    for before in range(sequence - 1, 1, -1):
        content = facts.get(before)
        if content is None:
            return None
        event = parse_event(content)
        if event.HasField("attempt_started"):
            return event
    return None


def _result(story: Story) -> Json:
    succeeded = story.fact.task_succeeded
    output = unpacked(succeeded.output.SerializeToString()) if succeeded.output.type_url else None
    artifact = next(media_in(output), None) if output is not None else None
    started = story.fact.time if story.started is None else story.started.time
    return {
        "media_url": None if artifact is None else artifact.uri,
        "payload_media_id": None if artifact is None else _media_id(story, artifact.uri),
        "metadata": {
            "processing_time": (story.fact.time - started) / 1_000_000,
            "tokens_used": succeeded.usage.tokens,
            "output_data": {} if output is None else _as_json(output),
        },
    }


def _media_id(story: Story, uri: str) -> str | None:
    return next((each.payload_media_id for each in story.media if each.uri == uri), None)


def _error(fact: EventRecord) -> Json | None:
    match fact.WhichOneof("fact"):
        case "task_cancelled":
            reason = fact.task_cancelled.reason
            return {
                "reason": FailureReason.CANCELLED.value,
                "message": f"the task was cancelled{f': {reason}' if reason else ''}",
                "retryable": False,
            }
        case "task_failed":
            return _failure(fact.task_failed.failure)
        case "attempt_failed":
            return _failure(fact.attempt_failed.failure)
        case _:
            return None


def _failure(message: task_pb2.Failure) -> Json:
    failure = failure_from_proto(message)
    return {
        "reason": failure.reason.value,
        "message": failure.message,
        "retryable": failure.retryable,
    }


def _progress(progress: task_pb2.Progress) -> Json:
    return {
        "current": progress.current,
        "total": progress.total,
        "percentage": round(progress.percentage, 2),
        "message": progress.message,
    }


def _as_json(message: Message) -> object:
    """Return proto JSON with the contract's own names; keys in their order."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return _sorted(cast("object", fields))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {name: _sorted(fields[name]) for name in sorted(fields)}
    if isinstance(value, list):
        return [_sorted(each) for each in cast("list[object]", value)]
    return value


def _text(microseconds: int) -> str:
    """Return the moment in RFC 3339, to the microsecond, in UTC."""
    text = instant(microseconds).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
