"""Turns events and tasks into the bytes that are stored, and back."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, assert_never

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord, TaskRecord
from callsheet.ledger import machine
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    Event,
    TaskCancelled,
    TaskFailed,
    TaskSubmitted,
    TaskSucceeded,
)
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.model import (
    NO_TIME,
    EndedAttempt,
    Failure,
    FailureReason,
    Progress,
    Submission,
    Task,
    TaskState,
    Terms,
    Usage,
)
from callsheet.ledger.store import Stored
from callsheet.ledger.wire import length_delimited
from callsheet.v1 import task_pb2
from callsheet.v1.task_event_pb2 import TaskSubmitted as TaskSubmittedProto

VERSION: Final = 1

_TASK_SUBMITTED: Final = EventRecord.TASK_SUBMITTED_FIELD_NUMBER
_SPEC: Final = TaskSubmittedProto.SPEC_FIELD_NUMBER

#: Stands for the time that the store will stamp; no fact happened in 1970.
UNSTAMPED: Final = instant(0)

STATE_TO_PROTO: Final[Mapping[TaskState, task_pb2.TaskState.ValueType]] = {
    state: task_pb2.TaskState.Value(f"TASK_STATE_{state.value}") for state in TaskState
}
STATE_FROM_PROTO: Final = {number: state for state, number in STATE_TO_PROTO.items()}
REASON_TO_PROTO: Final[Mapping[FailureReason, task_pb2.FailureReason.ValueType]] = {
    reason: task_pb2.FailureReason.Value(f"FAILURE_REASON_{reason.value}")
    for reason in FailureReason
}
REASON_FROM_PROTO: Final = {number: reason for reason, number in REASON_TO_PROTO.items()}


def encode_event(event: Event, *, operation: int) -> bytes:
    """Return the event's record, but for the sequence and time that the store stamps."""
    if isinstance(event, TaskSubmitted):
        return _encode_submitted(event.submission, operation=operation)
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
        case TaskSucceeded(attempt, output, usage):
            record.task_succeeded.attempt = attempt
            record.task_succeeded.output.ParseFromString(output)
            record.task_succeeded.usage.CopyFrom(usage_to_proto(usage))
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


def parse_event(content: bytes) -> EventRecord:
    """Return a stored event's record. Raises UnknownVersion."""
    record = EventRecord.FromString(content)
    if record.version != VERSION or record.WhichOneof("fact") is None:
        raise UnknownVersion("event", record.version)
    return record


def event_of(record: EventRecord) -> Event:
    """Return the fact that a stored event's record tells of."""
    match record.WhichOneof("fact"):
        case "task_submitted":
            return TaskSubmitted(_submission_from_proto(record.task_submitted))
        case "attempt_started":
            started = record.attempt_started
            lease = started.lease.ToTimedelta()
            return AttemptStarted(started.attempt, started.worker, started.device, lease)
        case "attempt_failed":
            failed = record.attempt_failed
            return AttemptFailed(failed.attempt, failure_from_proto(failed.failure))
        case "attempt_returned":
            return AttemptReturned(record.attempt_returned.attempt, record.attempt_returned.reason)
        case "cancel_requested":
            return CancelRequested(record.cancel_requested.reason)
        case "task_succeeded":
            succeeded = record.task_succeeded
            output = succeeded.output.SerializeToString(deterministic=True)
            return TaskSucceeded(succeeded.attempt, output, usage_from_proto(succeeded.usage))
        case "task_failed":
            ended = record.task_failed
            return TaskFailed(ended.attempt, failure_from_proto(ended.failure))
        case "task_cancelled":
            return TaskCancelled(record.task_cancelled.reason)
        case _:
            raise UnknownVersion("event", record.version)


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
    if task.output:
        record.output.ParseFromString(task.output)
    if task.failure is not None:
        record.failure.CopyFrom(failure_to_proto(task.failure))
    if task.state is TaskState.SUCCEEDED:
        record.usage.CopyFrom(usage_to_proto(task.usage))
    for ended in task.ended_attempts:
        record.ended_attempts.append(_ended_to_proto(ended, stamped=task.update_time))
    return record.SerializeToString()


@lru_cache(maxsize=64)
def _encode_new_task(ready_delay: timedelta) -> bytes:
    """Return the record of a task that was just accepted: they hardly differ."""
    record = TaskRecord(version=VERSION, sequence=1, state=STATE_TO_PROTO[TaskState.PENDING])
    if ready_delay > NO_TIME:
        record.ready_delay.FromTimedelta(ready_delay)
    return record.SerializeToString()


def decode_task(stored: Stored) -> Task:
    """Return the task: its record, and the fact after it that a claim appended."""
    first = parse_event(stored.first)
    record = TaskRecord.FromString(stored.record)
    if record.version != VERSION:
        raise UnknownVersion("task", record.version)
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


def parse_signal(content: bytes) -> SignalRecord:
    """Return a signal's record. Raises UnknownVersion."""
    record = SignalRecord.FromString(content)
    if record.version != VERSION:
        raise UnknownVersion("signal", record.version)
    return record


def progress_of(record: SignalRecord) -> Progress:
    """Return the progress that a signal's record tells of."""
    shown = record.progress
    return Progress(shown.current, shown.total, shown.message, instant(record.time))


def progress_to_proto(progress: Progress) -> task_pb2.Progress:
    """Return the contract's form."""
    return task_pb2.Progress(
        current=progress.current,
        total=progress.total,
        percentage=progress.percentage,
        message=progress.message,
        update_time=timestamp(progress.update_time),
    )


def failure_to_proto(failure: Failure) -> task_pb2.Failure:
    """Return the contract's form."""
    message = task_pb2.Failure(
        reason=REASON_TO_PROTO[failure.reason],
        message=failure.message,
        retryable=failure.retryable,
    )
    if failure.retry_delay is not None:
        message.retry_delay.FromTimedelta(failure.retry_delay)
    return message


def failure_from_proto(message: task_pb2.Failure) -> Failure:
    """Return the ledger's form; a reason from the future is INTERNAL."""
    delay = message.retry_delay.ToTimedelta() if message.HasField("retry_delay") else None
    reason = REASON_FROM_PROTO.get(message.reason, FailureReason.INTERNAL)
    return Failure(reason, message.message, message.retryable, delay)


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


def _encode_submitted(submission: Submission, *, operation: int) -> bytes:
    """Return TaskSubmitted's record.

    On the way of every submission: what many share is encoded once, and the spec is bytes already.
    """
    fact = _shared(submission.terms) + length_delimited(_SPEC, submission.spec) + _own(submission)
    head = EventRecord(version=VERSION, operation=operation).SerializeToString()
    return head + length_delimited(_TASK_SUBMITTED, fact)


@lru_cache(maxsize=1024)
def _shared(terms: Terms) -> bytes:
    message = TaskSubmittedProto(
        project=terms.project,
        queue=terms.queue,
        priority=terms.priority,
        max_attempts=terms.max_attempts,
    )
    _write_duration(message.time_limit, terms.time_limit)
    if terms.delay > NO_TIME:
        _write_duration(message.delay, terms.delay)
    if terms.expire_after is not None:
        _write_duration(message.expire_after, terms.expire_after)
    return message.SerializeToString()


def _own(submission: Submission) -> bytes:
    """Return what a submission has to itself, beside its spec; most have nothing."""
    message = TaskSubmittedProto()
    if submission.metadata:
        message.metadata.update(submission.metadata)
    if submission.trace_parent:
        message.trace_parent = submission.trace_parent
    if submission.retry_of:
        message.retry_of = submission.retry_of
    if submission.callback_url:
        message.callback.url = submission.callback_url
    return message.SerializeToString()


def _write_duration(message: Duration, length: timedelta) -> None:
    message.seconds = length.days * 86_400 + length.seconds
    message.nanos = 1000 * length.microseconds


def _submission_from_proto(message: TaskSubmittedProto) -> Submission:
    expires = message.HasField("expire_after")
    return Submission(
        project=message.project,
        task_type=message.spec.WhichOneof("input") or "",
        spec=message.spec.SerializeToString(deterministic=True),
        queue=message.queue,
        priority=message.priority,
        max_attempts=message.max_attempts,
        time_limit=message.time_limit.ToTimedelta(),
        delay=message.delay.ToTimedelta() if message.HasField("delay") else NO_TIME,
        expire_after=message.expire_after.ToTimedelta() if expires else None,
        callback_url=message.callback.url,
        metadata=dict(message.metadata),
        trace_parent=message.trace_parent,
        retry_of=message.retry_of,
    )


def _ended_to_proto(ended: EndedAttempt, *, stamped: datetime) -> task_pb2.EndedAttempt:
    message = task_pb2.EndedAttempt(attempt=ended.attempt, failure=failure_to_proto(ended.failure))
    if ended.end_time != stamped:
        message.end_time.CopyFrom(timestamp(ended.end_time))
    return message


def _ended_from_proto(message: task_pb2.EndedAttempt, *, stamped: datetime) -> EndedAttempt:
    end_time = stamped
    if message.HasField("end_time"):
        end_time = instant(message.end_time.ToMicroseconds())
    return EndedAttempt(message.attempt, failure_from_proto(message.failure), end_time)


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
        ready_delay=record.ready_delay.ToTimedelta(),
        worker=record.worker,
        device=record.device,
        cancel_requested=record.cancel_requested,
        cancel_reason=record.cancel_reason,
        output=_any_bytes(record.output) if record.HasField("output") else b"",
        failure=failure_from_proto(record.failure) if record.HasField("failure") else None,
        usage=usage_from_proto(record.usage),
        ended_attempts=tuple(
            _ended_from_proto(ended, stamped=stamped) for ended in record.ended_attempts
        ),
    )


def _any_bytes(message: AnyMessage) -> bytes:
    return message.SerializeToString(deterministic=True)
