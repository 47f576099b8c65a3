"""Turns events and tasks into the bytes that are stored, and back."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, assert_never

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord, TaskRecord
from callsheet.ledger import machine
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    ContextRetrieved,
    Event,
    MediaRegistered,
    TaskCancelled,
    TaskFailed,
    TaskSubmitted,
    TaskSucceeded,
)
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.messages import (
    callback_events_from_proto,
    checkpoint_from_proto,
    checkpoint_to_proto,
    context_from_proto,
    context_to_proto,
    ended_from_proto,
    ended_to_proto,
    failure_from_proto,
    failure_to_proto,
    media_from_proto,
    media_to_proto,
    progress_from_proto,
    progress_to_proto,
    quality_from_proto,
    quality_to_proto,
    reuse_from_proto,
    timestamp,
    usage_from_proto,
    usage_to_proto,
)
from callsheet.ledger.model import (
    NO_TIME,
    Progress,
    Submission,
    Task,
    TaskState,
)
from callsheet.ledger.notes import note_of, write_note
from callsheet.ledger.store import Stored
from callsheet.ledger.submitted import encode_submission
from callsheet.ledger.unreadable import loudly
from callsheet.ledger.wire import length_delimited
from callsheet.v1 import task_pb2
from callsheet.v1.task_event_pb2 import TaskSubmitted as TaskSubmittedProto
from callsheet.v1.task_event_pb2 import TaskSucceeded as TaskSucceededProto

VERSION: Final = 1

_TASK_SUBMITTED: Final = EventRecord.TASK_SUBMITTED_FIELD_NUMBER
_TASK_SUCCEEDED: Final = EventRecord.TASK_SUCCEEDED_FIELD_NUMBER
_OUTPUT: Final = TaskSucceededProto.OUTPUT_FIELD_NUMBER
_RECORD_OUTPUT: Final = TaskRecord.OUTPUT_FIELD_NUMBER

#: Stands for the time that the store will stamp; no fact happened in 1970.
UNSTAMPED: Final = instant(0)

STATE_TO_PROTO: Final[Mapping[TaskState, task_pb2.TaskState.ValueType]] = {
    state: task_pb2.TaskState.Value(f"TASK_STATE_{state.value}") for state in TaskState
}
STATE_FROM_PROTO: Final = {number: state for state, number in STATE_TO_PROTO.items()}


def encode_event(event: Event, *, operation: int) -> bytes:
    """Return the event's record, but for the sequence and time that the store stamps."""
    if isinstance(event, TaskSubmitted | TaskSucceeded):
        head = EventRecord(version=VERSION, operation=operation).SerializeToString()
        return head + _written_in_parts(event)
    record = EventRecord(version=VERSION, operation=operation)
    match event:
        case AttemptStarted(attempt, worker, device, lease):
            started = record.attempt_started
            started.attempt, started.worker, started.device = attempt, worker, device
            started.lease.FromTimedelta(lease)
        case AttemptFailed(attempt, failure):
            record.attempt_failed.attempt = attempt
            record.attempt_failed.failure.CopyFrom(failure_to_proto(failure))
        case AttemptReturned(attempt, reason):
            record.attempt_returned.attempt = attempt
            record.attempt_returned.reason = reason
        case CancelRequested(reason):
            record.cancel_requested.SetInParent()
            record.cancel_requested.reason = reason
        case ContextRetrieved() | CheckpointSaved() | MediaRegistered():
            write_note(record, event)
        case TaskFailed(attempt, failure):
            record.task_failed.attempt = attempt
            record.task_failed.failure.CopyFrom(failure_to_proto(failure))
        case TaskCancelled(reason):
            record.task_cancelled.SetInParent()
            record.task_cancelled.reason = reason
        case _:
            assert_never(event)
    return record.SerializeToString()


def start_template(*, worker: str, device: str, lease: timedelta, operation: int) -> bytes:
    """Return AttemptStarted's record, but for the attempt, sequence and time stamped by a claim."""
    return encode_event(AttemptStarted(0, worker, device, lease), operation=operation)


@loudly("event")
def parse_event(content: bytes) -> EventRecord:
    """Return a stored event's record. Raises UnknownVersion."""
    record = EventRecord.FromString(content)
    if record.version != VERSION or record.WhichOneof("fact") is None:
        raise UnknownVersion("event", record.version)
    instant(record.time)
    return record


def project_of(stored: Stored) -> str:
    """Return whose task it is. Raises UnknownVersion."""
    return parse_event(stored.first).task_submitted.project


@loudly("event")
def event_of(record: EventRecord) -> Event:
    """Return the fact that a stored event's record tells of."""
    match record.WhichOneof("fact"):
        case "task_submitted":
            return TaskSubmitted(_submission_from_proto(record.task_submitted))
        case "attempt_started":
            started = record.attempt_started
            lease = _length(started.lease)
            return AttemptStarted(started.attempt, started.worker, started.device, lease)
        case "attempt_failed":
            failed = record.attempt_failed
            return AttemptFailed(failed.attempt, failure_from_proto(failed.failure))
        case "attempt_returned":
            return AttemptReturned(record.attempt_returned.attempt, record.attempt_returned.reason)
        case "cancel_requested":
            return CancelRequested(record.cancel_requested.reason)
        case "task_succeeded":
            return _succeeded_of(record.task_succeeded)
        case "task_failed":
            ended = record.task_failed
            return TaskFailed(ended.attempt, failure_from_proto(ended.failure))
        case "task_cancelled":
            return TaskCancelled(record.task_cancelled.reason)
        case _:
            return note_of(record)


def encode_task(task: Task) -> bytes:
    """Return the task's record, but for the time that the store stamps."""
    if task.sequence == 1:
        return _encode_new_task(task.ready_delay)
    record = TaskRecord(
        version=VERSION,
        sequence=task.sequence,
        state=STATE_TO_PROTO[task.state],
        attempt=task.attempt,
        failures=task.failures,
        start_time=0 if task.start_time is None else microseconds(task.start_time),
        worker=task.worker,
        device=task.device,
        cancel_requested=task.cancel_requested,
        cancel_reason=task.cancel_reason,
    )
    if task.ready_delay > NO_TIME:
        record.ready_delay.FromTimedelta(task.ready_delay)
    if task.failure is not None:
        record.failure.CopyFrom(failure_to_proto(task.failure))
    if task.state is TaskState.SUCCEEDED:
        record.usage.CopyFrom(usage_to_proto(task.usage))
    for ended in task.ended_attempts:
        record.ended_attempts.append(ended_to_proto(ended, stamped=task.update_time))
    _write_notes(record, task)
    output = length_delimited(_RECORD_OUTPUT, task.output) if task.output else b""
    return record.SerializeToString() + output


@lru_cache(maxsize=64)
def _encode_new_task(ready_delay: timedelta) -> bytes:
    """Return the record of a task that was just accepted: they hardly differ."""
    record = TaskRecord(version=VERSION, sequence=1, state=STATE_TO_PROTO[TaskState.PENDING])
    if ready_delay > NO_TIME:
        record.ready_delay.FromTimedelta(ready_delay)
    return record.SerializeToString()


@loudly("task")
def decode_task(stored: Stored) -> Task:
    """Return the task: its record, and the fact after it that a claim appended."""
    first = parse_event(stored.first)
    record = TaskRecord.FromString(stored.record)
    if record.version != VERSION:
        raise UnknownVersion("task", record.version)
    if record.sequence == 1:
        task = _new_task(stored.task_id, first, record)
    else:
        task = _task_from_proto(stored.task_id, first, record)
    if record.sequence < stored.sequence:
        last = parse_event(stored.last)
        task = machine.evolve(task, event_of(last), time=instant(last.time))
    return task


def encode_progress(task_id: str, *, attempt: int, sequence: int, progress: Progress) -> bytes:
    """Return the signal's record, as published and as kept."""
    time = microseconds(progress.update_time)
    shown = progress_to_proto(progress)
    shown.ClearField("update_time")
    return SignalRecord(
        version=VERSION,
        task_id=task_id,
        attempt=attempt,
        sequence=sequence,
        time=time,
        progress=shown,
    ).SerializeToString()


@loudly("signal")
def parse_signal(content: bytes) -> SignalRecord:
    """Return a signal's record. Raises UnknownVersion."""
    record = SignalRecord.FromString(content)
    if record.version != VERSION:
        raise UnknownVersion("signal", record.version)
    instant(record.time)
    return record


def progress_of(record: SignalRecord) -> Progress:
    """Return the progress that a signal's record tells of."""
    return progress_from_proto(record.progress, update_time=instant(record.time))


def _written_in_parts(event: TaskSubmitted | TaskSucceeded) -> bytes:
    """Return the fact of which most is bytes already: a spec, an output."""
    if isinstance(event, TaskSubmitted):
        return length_delimited(_TASK_SUBMITTED, encode_submission(event.submission))
    fact = TaskSucceededProto(
        attempt=event.attempt, usage=usage_to_proto(event.usage), reused_from=event.reused_from
    )
    if event.quality is not None:
        fact.quality.CopyFrom(quality_to_proto(event.quality))
    content = fact.SerializeToString() + length_delimited(_OUTPUT, event.output)
    return length_delimited(_TASK_SUCCEEDED, content)


def _length(message: Duration) -> timedelta:
    # ToTimedelta takes five times as long, and each read of a task needs several.
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _submission_from_proto(message: TaskSubmittedProto) -> Submission:
    expires = message.HasField("expire_after")
    return Submission(
        project=message.project,
        task_type=message.spec.WhichOneof("input") or "",
        spec=message.spec.SerializeToString(deterministic=True),
        queue=message.queue,
        priority=message.priority,
        max_attempts=message.max_attempts,
        time_limit=_length(message.time_limit),
        delay=_length(message.delay) if message.HasField("delay") else NO_TIME,
        expire_after=_length(message.expire_after) if expires else None,
        callback_url=message.callback.url,
        callback_events=(
            callback_events_from_proto(message.callback) if message.callback.events else ()
        ),
        metadata=dict(message.metadata),
        trace_parent=message.trace_parent,
        retry_of=message.retry_of,
        reuse=reuse_from_proto(message.reuse) if message.HasField("reuse") else None,
    )


def _succeeded_of(message: TaskSucceededProto) -> TaskSucceeded:
    return TaskSucceeded(
        message.attempt,
        _any_bytes(message.output),
        usage_from_proto(message.usage),
        quality_from_proto(message.quality) if message.HasField("quality") else None,
        message.reused_from,
    )


def _write_notes(record: TaskRecord, task: Task) -> None:
    if task.context is not None:
        record.context.CopyFrom(context_to_proto(task.context))
        # As an ended attempt's end_time: left out, it is the record's own time.
        if task.context_time is not None and task.context_time != task.update_time:
            record.context.retrieve_time.CopyFrom(timestamp(task.context_time))
    if task.checkpoint is not None:
        record.checkpoint.CopyFrom(checkpoint_to_proto(task.checkpoint))
        record.checkpoint_failures = task.checkpoint_failures
    if task.quality is not None:
        record.quality.CopyFrom(quality_to_proto(task.quality))
    record.reused_from = task.reused_from
    if task.media:
        record.media.extend(media_to_proto(task.media))
    if task.ended_before is not None:
        record.end_time = microseconds(task.ended_before)


def _context_time(record: TaskRecord, *, stamped: datetime) -> datetime | None:
    if not record.HasField("context"):
        return None
    if not record.context.HasField("retrieve_time"):
        return stamped
    return instant(record.context.retrieve_time.ToMicroseconds())


def _new_task(task_id: str, first: EventRecord, record: TaskRecord) -> Task:
    """Return a task that was just accepted: what every claim reads, and there is little to it."""
    return Task(
        id=task_id,
        submission=_submission_from_proto(first.task_submitted),
        state=TaskState.PENDING,
        sequence=1,
        create_time=instant(first.time),
        update_time=instant(record.update_time),
        ready_delay=_length(record.ready_delay),
    )


def _task_from_proto(task_id: str, first: EventRecord, record: TaskRecord) -> Task:
    stamped = instant(record.update_time)
    return Task(
        id=task_id,
        submission=_submission_from_proto(first.task_submitted),
        state=STATE_FROM_PROTO[record.state],
        sequence=record.sequence,
        create_time=instant(first.time),
        update_time=stamped,
        attempt=record.attempt,
        failures=record.failures,
        start_time=instant(record.start_time) if record.start_time else None,
        ready_delay=_length(record.ready_delay),
        worker=record.worker,
        device=record.device,
        cancel_requested=record.cancel_requested,
        cancel_reason=record.cancel_reason,
        output=_any_bytes(record.output) if record.HasField("output") else b"",
        failure=failure_from_proto(record.failure) if record.HasField("failure") else None,
        usage=usage_from_proto(record.usage),
        ended_attempts=tuple(
            ended_from_proto(ended, stamped=stamped) for ended in record.ended_attempts
        ),
        context=context_from_proto(record.context) if record.HasField("context") else None,
        context_time=_context_time(record, stamped=stamped),
        checkpoint=(
            checkpoint_from_proto(record.checkpoint) if record.HasField("checkpoint") else None
        ),
        checkpoint_failures=record.checkpoint_failures,
        quality=quality_from_proto(record.quality) if record.HasField("quality") else None,
        reused_from=record.reused_from,
        media=media_from_proto(record.media) if record.media else (),
        ended_before=instant(record.end_time) if record.end_time else None,
    )


def _any_bytes(message: AnyMessage) -> bytes:
    return message.SerializeToString(deterministic=True)
