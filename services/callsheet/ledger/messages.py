"""The contract's forms of the ledger's values, and back."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.model import (
    CallbackEvent,
    Checkpoint,
    EndedAttempt,
    Failure,
    FailureReason,
    Knowledge,
    PinnedModel,
    Progress,
    ProgressPhase,
    Quality,
    RegisteredMedia,
    ReuseTerms,
    SimilarTask,
    TaskContext,
    Usage,
)
from callsheet.v1 import task_event_pb2, task_pb2

REASON_TO_PROTO: Final[Mapping[FailureReason, task_pb2.FailureReason.ValueType]] = {
    reason: task_pb2.FailureReason.Value(f"FAILURE_REASON_{reason.value}")
    for reason in FailureReason
}
REASON_FROM_PROTO: Final = {number: reason for reason, number in REASON_TO_PROTO.items()}
EVENT_TO_PROTO: Final[Mapping[CallbackEvent, task_pb2.CallbackEvent.ValueType]] = {
    event: task_pb2.CallbackEvent.Value(f"CALLBACK_EVENT_{event.value}") for event in CallbackEvent
}
PHASE_TO_PROTO: Final[Mapping[ProgressPhase | None, task_pb2.ProgressPhase.ValueType]] = {
    None: task_pb2.PROGRESS_PHASE_UNSPECIFIED,
    ProgressPhase.LOADING: task_pb2.PROGRESS_PHASE_LOADING,
    ProgressPhase.STEPS: task_pb2.PROGRESS_PHASE_STEPS,
    ProgressPhase.ENCODING: task_pb2.PROGRESS_PHASE_ENCODING,
}
PHASE_FROM_PROTO: Final = {number: phase for phase, number in PHASE_TO_PROTO.items()}


def progress_to_proto(progress: Progress) -> task_pb2.Progress:
    """Return the contract's form."""
    message = task_pb2.Progress(
        current=progress.current,
        total=progress.total,
        percentage=progress.percentage,
        message=progress.message,
        update_time=timestamp(progress.update_time),
        phase=PHASE_TO_PROTO[progress.phase],
    )
    if progress.preview:
        message.preview.ParseFromString(progress.preview)
    return message


def progress_from_proto(message: task_pb2.Progress, *, update_time: datetime) -> Progress:
    """Return the ledger's form; a phase from the future has no name."""
    phase = PHASE_FROM_PROTO.get(message.phase)
    preview = message.preview.SerializeToString() if message.HasField("preview") else b""
    return Progress(message.current, message.total, message.message, update_time, phase, preview)


def failure_to_proto(failure: Failure) -> task_pb2.Failure:
    """Return the contract's form."""
    message = task_pb2.Failure(
        reason=REASON_TO_PROTO[failure.reason],
        message=failure.message,
        retryable=failure.retryable,
        memory_needed_bytes=failure.memory_needed_bytes,
    )
    if failure.retry_delay is not None:
        message.retry_delay.FromTimedelta(failure.retry_delay)
    return message


def failure_from_proto(message: task_pb2.Failure) -> Failure:
    """Return the ledger's form; a reason from the future is INTERNAL."""
    delay = message.retry_delay.ToTimedelta() if message.HasField("retry_delay") else None
    reason = REASON_FROM_PROTO.get(message.reason, FailureReason.INTERNAL)
    needed = message.memory_needed_bytes
    return Failure(reason, message.message, message.retryable, delay, needed)


def callback_events_from_proto(message: task_pb2.Callback) -> tuple[CallbackEvent, ...]:
    """Return what the callback asks for, in one order; what is from the future is left out."""
    numbers = set(message.events)
    return tuple(event for event, number in EVENT_TO_PROTO.items() if number in numbers)


def usage_to_proto(usage: Usage) -> task_pb2.Usage:
    """Return the contract's form."""
    return task_pb2.Usage(
        gpu_seconds=usage.gpu_seconds,
        queue_seconds=usage.queue_seconds,
        model_load_seconds=usage.model_load_seconds,
        run_seconds=usage.run_seconds,
        peak_vram_bytes=usage.peak_vram_bytes,
        peak_rss_bytes=usage.peak_rss_bytes,
        tokens=usage.tokens,
        step_seconds=usage.step_seconds,
        encode_seconds=usage.encode_seconds,
    )


def usage_from_proto(message: task_pb2.Usage) -> Usage:
    """Return the ledger's form."""
    return Usage(
        gpu_seconds=message.gpu_seconds,
        queue_seconds=message.queue_seconds,
        model_load_seconds=message.model_load_seconds,
        run_seconds=message.run_seconds,
        peak_vram_bytes=message.peak_vram_bytes,
        peak_rss_bytes=message.peak_rss_bytes,
        tokens=message.tokens,
        step_seconds=message.step_seconds if message.HasField("step_seconds") else None,
        encode_seconds=message.encode_seconds if message.HasField("encode_seconds") else None,
    )


def timestamp(moment: datetime) -> Timestamp:
    """Return the contract's form of a moment."""
    seconds, micros = divmod(microseconds(moment), 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def duration(length: timedelta) -> Duration:
    """Return the contract's form of a length of time."""
    message = Duration()
    message.FromTimedelta(length)
    return message


def write_duration(message: Duration, length: timedelta) -> None:
    """Write a length of time in place; a message that is given to another one is copied."""
    message.seconds = length.days * 86_400 + length.seconds
    message.nanos = 1000 * length.microseconds


def quality_to_proto(quality: Quality) -> task_pb2.Quality:
    """Return the contract's form."""
    return task_pb2.Quality(measure=quality.measure, score=quality.score, parts=quality.parts)


def quality_from_proto(message: task_pb2.Quality) -> Quality:
    """Return the ledger's form."""
    return Quality(message.measure, message.score, dict(message.parts))


def checkpoint_to_proto(checkpoint: Checkpoint) -> task_pb2.Checkpoint:
    """Return the contract's form of where work can be gone on from."""
    return task_pb2.Checkpoint(
        key=checkpoint.key,
        sha256=checkpoint.sha256,
        size_bytes=checkpoint.size_bytes,
        step=checkpoint.step,
        of=checkpoint.of,
        part=checkpoint.part,
    )


def checkpoint_from_proto(message: task_pb2.Checkpoint) -> Checkpoint:
    """Return where work can be gone on from."""
    return Checkpoint(
        message.key, message.sha256, message.size_bytes, message.step, message.of, message.part
    )


def context_to_proto(context: TaskContext) -> task_pb2.TaskContext:
    """Return the contract's form, without the time at which it was retrieved."""
    return task_pb2.TaskContext(
        knowledge=[
            task_pb2.Knowledge(source=known.source, text=known.text, score=known.score)
            for known in context.knowledge
        ],
        similar_tasks=[
            task_pb2.SimilarTask(
                task_id=similar.task_id,
                task_type=similar.task_type,
                status=similar.status,
                text=similar.text,
                score=similar.score,
            )
            for similar in context.similar_tasks
        ],
    )


def context_from_proto(message: task_pb2.TaskContext) -> TaskContext:
    """Return the ledger's form."""
    return TaskContext(
        tuple(Knowledge(known.source, known.text, known.score) for known in message.knowledge),
        tuple(
            SimilarTask(each.task_id, each.task_type, each.status, each.text, each.score)
            for each in message.similar_tasks
        ),
    )


def ended_to_proto(ended: EndedAttempt, *, stamped: datetime) -> task_pb2.EndedAttempt:
    """Return the stored form: an end_time that is the record's own is left out."""
    message = task_pb2.EndedAttempt(attempt=ended.attempt, failure=failure_to_proto(ended.failure))
    if ended.end_time != stamped:
        message.end_time.CopyFrom(timestamp(ended.end_time))
    return message


def ended_from_proto(message: task_pb2.EndedAttempt, *, stamped: datetime) -> EndedAttempt:
    """Return the ledger's form of what is stored in a record with that time."""
    end_time = stamped
    if message.HasField("end_time"):
        end_time = instant(message.end_time.ToMicroseconds())
    return EndedAttempt(message.attempt, failure_from_proto(message.failure), end_time)


def media_to_proto(media: Iterable[RegisteredMedia]) -> list[task_pb2.RegisteredMedia]:
    """Return the contract's form."""
    return [
        task_pb2.RegisteredMedia(uri=each.uri, payload_media_id=each.payload_media_id)
        for each in media
    ]


def media_from_proto(media: Iterable[task_pb2.RegisteredMedia]) -> tuple[RegisteredMedia, ...]:
    """Return the ledger's form."""
    return tuple(RegisteredMedia(each.uri, each.payload_media_id) for each in media)


def reuse_from_proto(message: task_event_pb2.ReuseTerms) -> ReuseTerms:
    """Return the ledger's form."""
    models = tuple(PinnedModel(each.field, each.name, each.revision) for each in message.models)
    return ReuseTerms(message.digest.hex(), message.ttl.ToTimedelta(), models)
