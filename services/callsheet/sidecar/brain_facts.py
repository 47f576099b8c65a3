"""What a fact of a task is to the brain: a pure translation, the same one every time."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, cast

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from callsheet.artifacts.references import media_in, unpacked
from callsheet.brain.records import (
    ArtifactWrite,
    ContextWrite,
    EventName,
    FailureWrite,
    Json,
    ModelWrite,
    QualityWrite,
    Status,
    TaskEventWrite,
)
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.about import words_of
from callsheet.ledger.instants import instant
from callsheet.tasks.v1 import options_pb2
from callsheet.v1.task_event_pb2 import TaskSubmitted
from callsheet.v1.task_pb2 import Failure, FailureReason, Quality, TaskContext, Usage

#: Facts by the name of their arm: what the brain calls them, and the task's status after them.
_WORDS: Final[Mapping[str, tuple[EventName, Status]]] = MappingProxyType(
    {
        "task_submitted": ("submitted", "queued"),
        "attempt_started": ("started", "processing"),
        "attempt_failed": ("retrying", "queued"),
        "attempt_returned": ("returned", "queued"),
        "cancel_requested": ("cancel_requested", "processing"),
        "task_succeeded": ("succeeded", "completed"),
        "task_failed": ("failed", "failed"),
        "task_cancelled": ("cancelled", "cancelled"),
        "media_registered": ("media_registered", "completed"),
        "context_retrieved": ("context_retrieved", "processing"),
    }
)

#: The facts that say nothing of what a task is, and may be many: they stay out of the graph.
UNTOLD: Final = frozenset({"checkpoint_saved"})

#: The facts that end a task.
FINAL_ARMS: Final = frozenset({"task_succeeded", "task_failed", "task_cancelled"})

#: A spec or output with more bytes stays out of the graph, which is for finding, not for keeping.
LARGEST_MESSAGE_BYTES: Final = 128 * 1024
MOST_ARTIFACTS: Final = 1000
LONGEST_REASON: Final = 4096


def fact_of(
    record: EventRecord, submitted: TaskSubmitted, *, task_id: str, epoch: str, alone: bool = False
) -> TaskEventWrite:
    """Return the fact for the brain; what does not apply is left out.

    *alone*: a final fact says also what was asked for, for a brain that keeps the facts apart.
    """
    arm = record.WhichOneof("fact") or ""
    event, status = _WORDS[arm]
    fact: TaskEventWrite = {
        "epoch": epoch,
        "task_id": task_id,
        "sequence": record.sequence,
        "project": submitted.project,
        "event": event,
        "status": status,
        "time": instant(record.time).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "task_type": submitted.spec.WhichOneof("input") or "unknown",
    }
    if arm == "task_submitted":
        _add_submission(fact, submitted)
    elif alone and arm in FINAL_ARMS:
        asked: TaskEventWrite = {**fact}
        _add_submission(asked, submitted)
        fact = asked
    _add_details(fact, record)
    return fact


def _add_details(fact: TaskEventWrite, record: EventRecord) -> None:
    match record.WhichOneof("fact"):
        case "attempt_started":
            started = record.attempt_started
            fact["attempt"] = started.attempt
            fact["worker"], fact["device"] = started.worker, started.device
        case "attempt_failed":
            fact["attempt"] = record.attempt_failed.attempt
            fact["failure"] = _failure(record.attempt_failed.failure)
        case "attempt_returned":
            fact["attempt"] = record.attempt_returned.attempt
        case "task_succeeded":
            _add_success(fact, record)
        case "task_failed":
            if record.task_failed.attempt:
                fact["attempt"] = record.task_failed.attempt
            fact["failure"] = _failure(record.task_failed.failure)
        case "task_cancelled":
            fact["failure"] = _cancelled(record.task_cancelled.reason)
        case "media_registered":
            fact["media"] = [
                {"uri": each.uri, "payload_media_id": each.payload_media_id}
                for each in record.media_registered.media
            ]
        case "context_retrieved":
            fact["attempt"] = record.context_retrieved.attempt
            fact["context"] = _context(record.context_retrieved.context)
        case _:
            return  # a submission was told of before; a wish to cancel says nothing more


def _add_submission(fact: TaskEventWrite, submitted: TaskSubmitted) -> None:
    spec = _input(submitted)
    if spec is not None:
        if words := words_of(spec):
            fact["text"] = words
        if spec.ByteSize() <= LARGEST_MESSAGE_BYTES:
            fact["spec"] = as_json(spec)
        if name := _model_asked(spec):
            fact["model"] = {"name": name}
    if submitted.retry_of:
        fact["retry_of"] = fact["derived_from"] = submitted.retry_of
    if submitted.metadata:
        fact["metadata"] = dict(sorted(submitted.metadata.items()))


def _add_success(fact: TaskEventWrite, record: EventRecord) -> None:
    succeeded = record.task_succeeded
    if succeeded.attempt:
        fact["attempt"] = succeeded.attempt
    if usage := _numbers(succeeded.usage):
        fact["usage"] = usage
    # Of an output that is used again, artifacts and quality are the other task's.
    is_own = not succeeded.reused_from
    if not is_own:
        fact["derived_from"] = succeeded.reused_from
    if is_own and succeeded.HasField("quality"):
        fact["quality"] = _quality(succeeded.quality)
    try:
        output = unpacked(succeeded.output.SerializeToString())
    except ValueError:
        return  # of a task type that this version does not know: the fact stands without it
    if output.ByteSize() <= LARGEST_MESSAGE_BYTES:
        fact["output"] = as_json(output)
    if is_own and (artifacts := list(_artifacts(output))):
        fact["artifacts"] = artifacts[:MOST_ARTIFACTS]
    if model := _model_used(output):
        fact["model"] = model


def _input(submitted: TaskSubmitted) -> Message | None:
    arm = submitted.spec.WhichOneof("input")
    return cast("Message", getattr(submitted.spec, arm)) if arm is not None else None


def _model_asked(spec: Message) -> str:
    for field in spec.DESCRIPTOR.fields:
        if field.GetOptions().Extensions[options_pb2.model]:
            return cast("str", getattr(spec, field.name))
    return ""


def _model_used(output: Message) -> ModelWrite | None:
    """Return what the output says in its strings `model` and `model_revision`, if it has them."""
    fields = output.DESCRIPTOR.fields_by_name
    told = {
        name: cast("str", getattr(output, name))
        for name in ("model", "model_revision")
        if name in fields and fields[name].type == FieldDescriptor.TYPE_STRING
    }
    if not told.get("model"):
        return None
    revision = told.get("model_revision")
    return {"name": told["model"], "revision": revision} if revision else {"name": told["model"]}


def _artifacts(output: Message) -> Iterator[ArtifactWrite]:
    for artifact in media_in(output):
        yield {
            "uri": artifact.uri,
            "sha256": artifact.sha256,
            "media_type": artifact.media_type,
            "size_bytes": artifact.size_bytes,
        }


def _failure(failure: Failure) -> FailureWrite:
    name = FailureReason.Name(failure.reason) if failure.reason in FailureReason.values() else ""
    return {
        "reason": name.removeprefix("FAILURE_REASON_") or "INTERNAL",
        "message": failure.message[:LONGEST_REASON],
        "retryable": failure.retryable,
    }


def _cancelled(reason: str) -> FailureWrite:
    told = f"the task was cancelled: {reason}" if reason else "the task was cancelled"
    return {"reason": "CANCELLED", "message": told[:LONGEST_REASON], "retryable": False}


def _quality(quality: Quality) -> QualityWrite:
    return {
        "measure": quality.measure,
        "score": quality.score,
        "parts": dict(sorted(quality.parts.items())),
    }


def _context(context: TaskContext) -> ContextWrite:
    return {
        "knowledge": [
            {"source": each.source[:LONGEST_REASON], "score": each.score}
            for each in context.knowledge
        ],
        "similar_tasks": [
            {"task_id": each.task_id, "score": each.score} for each in context.similar_tasks
        ],
    }


def _numbers(usage: Usage) -> Json:
    return {field.name: value for field, value in usage.ListFields()}


def as_json(message: Message) -> Json:
    """Return proto JSON with the contract's own names."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
