"""Between the contract's messages and the ledger's values."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.acceptance import Outcome, ReuseWish, SubmitCommand
from callsheet.ledger.access import Principal
from callsheet.ledger.codec import STATE_FROM_PROTO, STATE_TO_PROTO
from callsheet.ledger.delivery_model import STATE_FROM_PROTO as DELIVERY_STATE_FROM_PROTO
from callsheet.ledger.delivery_model import STATE_TO_PROTO as DELIVERY_STATE_TO_PROTO
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.ledger.delivery_overview import DeliveryFilter
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.instants import microseconds
from callsheet.ledger.listing import TaskFilter
from callsheet.ledger.messages import (
    EVENT_TO_PROTO,
    callback_events_from_proto,
    checkpoint_to_proto,
    context_to_proto,
    duration,
    failure_to_proto,
    media_to_proto,
    progress_to_proto,
    quality_to_proto,
    timestamp,
    usage_to_proto,
)
from callsheet.ledger.model import (
    NO_TIME,
    NOTHING,
    EndedAttempt,
    Progress,
    Submission,
    Task,
    TaskState,
    Usage,
)
from callsheet.ledger.overview import QueueView
from callsheet.ledger.snapshots import WatchFilter
from callsheet.ledger.tickets import ROLE_TO_PROTO
from callsheet.ledger.waiting import Wait, WaitReason
from callsheet.v1 import (
    access_service_pb2,
    operations_service_pb2,
    task_pb2,
    task_service_pb2,
)
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_service_pb2 import ListTasksRequest, SubmitTaskRequest, WatchTasksRequest

#: The version of TaskEvent's meaning.
EVENT_VERSION: Final = 1

_NO_USAGE: Final = Usage()
_NO_WAIT: Final = Wait()
_WAIT_REASONS: Final[Mapping[WaitReason, task_pb2.WaitReason.ValueType]] = {
    reason: task_pb2.WaitReason.Value(f"WAIT_REASON_{reason.value}") for reason in WaitReason
}


def to_command(
    request: SubmitTaskRequest,
    *,
    trace_parent: str,
    reuse: ReuseWish | None = None,
    unfit: LedgerError | None = None,
) -> SubmitCommand:
    """Return the wish that a checked request expresses."""
    return SubmitCommand(
        spec=request.spec.SerializeToString(deterministic=True),
        task_type=request.spec.WhichOneof("input") or "",
        project=request.project,
        request_id=request.request_id,
        priority=request.priority if request.HasField("priority") else None,
        delay=request.delay.ToTimedelta() if request.HasField("delay") else NO_TIME,
        expire_after=(
            request.expire_after.ToTimedelta() if request.HasField("expire_after") else None
        ),
        callback_url=request.callback.url if request.HasField("callback") else "",
        callback_events=(
            callback_events_from_proto(request.callback) if request.callback.events else ()
        ),
        metadata=dict(request.metadata) if request.metadata else NOTHING,
        trace_parent=trace_parent,
        reuse=reuse,
        unfit=unfit,
    )


def to_filter(request: ListTasksRequest) -> TaskFilter:
    """Return which tasks a checked request asks for."""
    state = STATE_FROM_PROTO[request.state] if request.state else None
    return TaskFilter(request.project, state, request.task_type)


def to_watch_filter(request: WatchTasksRequest) -> WatchFilter:
    """Return which tasks a checked request wants to watch."""
    return WatchFilter(
        request.project,
        frozenset(STATE_FROM_PROTO[state] for state in request.states),
        frozenset(request.task_types),
        # A UUID is the same in capitals; the ledger knows it in small letters.
        frozenset(task_id.lower() for task_id in request.task_ids),
    )


def to_delivery_filter(message: operations_service_pb2.DeliveryFilter) -> DeliveryFilter:
    """Return which deliveries a checked request asks for."""
    after, before = message.created_after, message.created_before
    return DeliveryFilter(
        project=message.project,
        state=DELIVERY_STATE_FROM_PROTO[message.state] if message.state else None,
        url=message.url,
        created_after=after.ToMicroseconds() if message.HasField("created_after") else 0,
        created_before=before.ToMicroseconds() if message.HasField("created_before") else None,
    )


def task_to_proto(
    task: Task, *, epoch: str, progress: Progress | None = None, wait: Wait = _NO_WAIT
) -> task_pb2.Task:
    """Return the contract's form of a task, with what is known beside it."""
    # Field by field, and only what is set: half the cost of keyword arguments and copies.
    message = task_pb2.Task()
    _set_submission(message, task.submission)
    message.id = task.id
    message.state = STATE_TO_PROTO[task.state]
    message.sequence = task.sequence
    message.epoch = epoch
    _set_time(message.create_time, task.create_time)
    _set_time(message.update_time, task.update_time)
    if task.attempt:
        _set_attempt(message, task)
    if task.expire_time is not None:
        _set_time(message.expire_time, task.expire_time)
    if task.ready_time is not None:
        _set_time(message.ready_time, task.ready_time)
    if task.cancel_requested:
        message.cancel_requested, message.cancel_reason = True, task.cancel_reason
    if task.is_final:
        _set_outcome(message, task)
    if progress is not None:
        message.progress.CopyFrom(_progress_of(task, progress))
    if wait.reason is not None:
        message.wait_reason = _WAIT_REASONS[wait.reason]
    if wait.position is not None:
        message.queue_position = wait.position
    return message


def write_accepted(message: task_pb2.Task, task: Task) -> None:
    """Write what a batch's answer tells of an accepted task."""
    message.id = task.id
    message.project = task.submission.project
    message.state = STATE_TO_PROTO[task.state]
    message.sequence = task.sequence
    _set_time(message.create_time, task.create_time)


def fact_to_proto(record: EventRecord, *, task_id: str, epoch: str) -> TaskEvent:
    """Return the contract's form of a stored fact."""
    event = TaskEvent(version=EVENT_VERSION, task_id=task_id, epoch=epoch, sequence=record.sequence)
    event.time.FromMicroseconds(record.time)
    name = record.WhichOneof("fact")
    if name is not None:
        # Record and contract give each fact the same name and message.
        getattr(event, name).CopyFrom(getattr(record, name))
    if name == "context_retrieved":
        event.context_retrieved.context.retrieve_time.CopyFrom(event.time)
    return event


def signal_to_proto(progress: Progress, *, task_id: str, epoch: str, sequence: int) -> TaskEvent:
    """Return the contract's form of a signal that came after the fact *sequence*."""
    shown = progress_to_proto(progress)
    return TaskEvent(
        version=EVENT_VERSION,
        task_id=task_id,
        epoch=epoch,
        sequence=sequence,
        time=shown.update_time,
        progress=shown,
    )


#: How a submission was answered, in the contract's words.
OUTCOMES: Final[Mapping[Outcome, task_service_pb2.SubmitOutcome.ValueType]] = {
    outcome: task_service_pb2.SubmitOutcome.Value(f"SUBMIT_OUTCOME_{outcome.value}")
    for outcome in Outcome
}


def queue_to_proto(queue: QueueView) -> operations_service_pb2.Queue:
    """Return the contract's form of a queue."""
    return operations_service_pb2.Queue(
        pause_time=None if queue.pause_time is None else timestamp(queue.pause_time),
        name=queue.name,
        task_types=queue.task_types,
        ready=queue.ready,
        oldest_wait=None if queue.oldest_wait is None else duration(queue.oldest_wait),
        workers=queue.workers,
        slots=queue.slots,
        busy_slots=queue.busy_slots,
        reuse=[
            operations_service_pb2.ReuseCount(
                task_type=count.task_type, hits=count.hits, misses=count.misses, joins=count.joins
            )
            for count in queue.reuse
        ],
    )


def delivery_to_proto(record: DeliveryRecord) -> operations_service_pb2.Delivery:
    """Return the contract's form of a delivery."""
    message = operations_service_pb2.Delivery(
        id=record.id,
        task_id=record.task_id,
        sequence=record.sequence,
        url=record.url,
        state=DELIVERY_STATE_TO_PROTO[record.state],
        tries=record.tries,
        last_status=record.last_status,
        last_error=record.last_error,
        create_time=timestamp(record.create_time),
        project=record.project,
        event=record.event,
    )
    if record.next_try_time is not None:
        message.next_try_time.CopyFrom(timestamp(record.next_try_time))
    if record.end_time is not None:
        message.end_time.CopyFrom(timestamp(record.end_time))
    return message


def principal_to_proto(principal: Principal) -> access_service_pb2.Principal:
    """Return the contract's form of whoever calls."""
    message = access_service_pb2.Principal(
        key_id=principal.key_id,
        projects=sorted(principal.projects),
        roles=sorted(ROLE_TO_PROTO[role] for role in principal.roles),
    )
    if (ticket := principal.ticket) is not None:
        _set_time(message.expire_time, ticket.expire_time)
        if ticket.renewal_end_time is not None:
            _set_time(message.renewal_end_time, ticket.renewal_end_time)
    if principal.time_left is not None:
        message.time_left.FromTimedelta(principal.time_left)
    return message


def _set_submission(message: task_pb2.Task, submission: Submission) -> None:
    message.project = submission.project
    message.spec.MergeFromString(submission.spec)
    message.task_type = submission.task_type
    message.queue = submission.queue
    message.priority = submission.priority
    message.max_attempts = submission.max_attempts
    if submission.metadata:
        message.metadata.update(submission.metadata)
    if submission.callback_url:
        message.callback.url = submission.callback_url
        message.callback.events.extend(EVENT_TO_PROTO[e] for e in submission.callback_events)
    if submission.trace_parent:
        message.trace_parent = submission.trace_parent
    if submission.retry_of:
        message.retry_of = submission.retry_of


def _set_attempt(message: task_pb2.Task, task: Task) -> None:
    message.attempt = task.attempt
    message.worker = task.worker
    if task.start_time is not None:
        _set_time(message.start_time, task.start_time)
    for ended in task.ended_attempts:
        message.ended_attempts.append(_ended_to_proto(ended))
    if task.context is not None:
        message.context.CopyFrom(context_to_proto(task.context))
        if task.context_time is not None:
            _set_time(message.context.retrieve_time, task.context_time)
    if task.checkpoint is not None:
        message.checkpoint.CopyFrom(checkpoint_to_proto(task.checkpoint))


def _progress_of(task: Task, progress: Progress) -> task_pb2.Progress:
    shown = progress_to_proto(progress)
    if task.state is not TaskState.RUNNING:
        shown.ClearField("preview")  # it went with its attempt
    return shown


def _set_outcome(message: task_pb2.Task, task: Task) -> None:
    _set_time(message.end_time, task.end_time or task.update_time)
    if task.output:
        message.output.MergeFromString(task.output)
    if task.failure is not None:
        message.failure.CopyFrom(failure_to_proto(task.failure))
    if task.usage != _NO_USAGE:
        message.usage.CopyFrom(usage_to_proto(task.usage))
    if task.quality is not None:
        message.quality.CopyFrom(quality_to_proto(task.quality))
    if task.reused_from:
        message.reused_from = task.reused_from
    message.media.extend(media_to_proto(task.media))


def _set_time(field: Timestamp, moment: datetime) -> None:
    field.seconds, micros = divmod(microseconds(moment), 1_000_000)
    field.nanos = 1000 * micros


def _ended_to_proto(ended: EndedAttempt) -> task_pb2.EndedAttempt:
    return task_pb2.EndedAttempt(
        attempt=ended.attempt,
        failure=failure_to_proto(ended.failure),
        end_time=timestamp(ended.end_time),
    )
