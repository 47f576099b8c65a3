"""Answers as text for people, and as JSON for programs."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

from google.protobuf import json_format

from callsheet.client.access import role_word
from callsheet.client.cli.spans import show_span
from callsheet.client.errors import Unimplemented, failure_reason
from callsheet.client.states import state_word
from callsheet.client.task_types import unpack
from callsheet.v1 import operations_service_pb2, task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from callsheet.client.task_types import TaskType
    from callsheet.v1 import task_event_pb2
    from callsheet.v1.access_service_pb2 import Principal
    from callsheet.v1.operations_service_pb2 import (
        Delivery,
        GetPerformanceResponse,
        Queue,
        Worker,
    )
    from callsheet.v1.task_service_pb2 import SubmitOutcome


def to_json(message: Message) -> str:
    """Return a message as protobuf JSON on one line, with the names of the contract.

    Raises Unimplemented when it carries a message that is newer than this client.
    """
    try:
        fields = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    except TypeError as error:
        raise Unimplemented(str(error), reason="OUTPUT_TYPE_UNKNOWN") from None
    return json.dumps(fields)


def task_type_json(task_type: TaskType) -> str:
    """Return a task type as JSON: its name, its messages and its policy."""
    policy = json.loads(to_json(task_type.policy))
    name = {"name": task_type.name, "input_type": task_type.input_class.DESCRIPTOR.full_name}
    return json.dumps(name | policy)


def task_text(task: task_pb2.Task) -> str:
    """Return all that matters of a task, one fact a line."""
    lines = [
        ("task", task.id),
        ("type", task.task_type),
        ("project", task.project),
        ("state", _state_text(task)),
        ("progress", progress_text(task.progress) if task.HasField("progress") else ""),
        ("attempt", f"{task.attempt} of {task.max_attempts}" if task.attempt else ""),
        ("queue", f"{task.queue}, priority {task.priority}"),
        ("worker", task.worker),
        ("created", time_text(task.create_time)),
        ("started", time_text(task.start_time) if task.HasField("start_time") else ""),
        ("ended", time_text(task.end_time) if task.HasField("end_time") else ""),
        ("retry of", task.retry_of),
        ("reused", f"the output of {task.reused_from}" if task.reused_from else ""),
        ("quality", _quality_text(task.quality) if task.HasField("quality") else ""),
        ("failure", _failure_text(task.failure) if task.HasField("failure") else ""),
    ]
    text = "\n".join(f"{name + ':':<10}{plain(value)}" for name, value in lines if value)
    return f"{text}\n{result_text(task)}".rstrip() if task.HasField("output") else text


def result_text(task: task_pb2.Task) -> str:
    """Return the output of a task that succeeded, in the notation of its message."""
    try:
        output = unpack(task.output)
    except Unimplemented as error:
        return f"# {error}"
    text = str(output).rstrip()
    return text or f"# an empty {output.DESCRIPTOR.name}"


async def task_table(tasks: AsyncIterator[task_pb2.Task]) -> AsyncIterator[str]:
    """Yield a line for each task, below a heading that waits for the first of them."""
    heading = f"{'TASK':<37}{'TYPE':<20}{'STATE':<11}{'CREATED':<21}PROGRESS"
    async for task in tasks:
        if heading:
            yield heading
            heading = ""
        progress = progress_text(task.progress) if task.HasField("progress") else ""
        yield (
            f"{task.id:<37}{task.task_type:<20}{state_word(task):<11}"
            f"{time_text(task.create_time):<21}{plain(progress)}"
        ).rstrip()
    if heading:
        yield heading


def queue_table(queues: Sequence[Queue]) -> Iterable[str]:
    """Yield a line for each queue, below a heading."""
    numbers = f"{'READY':>7}{'OLDEST':>10}{'WORKERS':>9}{'BUSY':>10}{'REUSED':>9}"
    yield f"{'QUEUE':<20}{numbers}  TASK TYPES"
    for queue in queues:
        waiting = queue.HasField("oldest_wait")
        oldest = show_span(queue.oldest_wait.ToTimedelta()) if waiting else "-"
        busy = f"{queue.busy_slots} of {queue.slots}"
        yield (
            f"{queue.name:<20}{queue.ready:>7}{oldest:>10}{queue.workers:>9}{busy:>10}"
            f"{reuse_rate(queue):>9}  {', '.join(queue.task_types)}"
            f"{' (paused)' if queue.HasField('pause_time') else ''}"
        )


def reuse_rate(queue: Queue) -> str:
    """Return the share of submissions that allowed reuse and were answered by it; - for none."""
    answered = sum(count.hits + count.joins for count in queue.reuse)
    asked = answered + sum(count.misses for count in queue.reuse)
    return f"{answered / asked:.0%}" if asked else "-"


def outcome_text(outcome: SubmitOutcome.ValueType, task: task_pb2.Task) -> str:
    """Return how a submission was answered, if not by a new task that runs."""
    match outcome:
        case task_service_pb2.SUBMIT_OUTCOME_REPEATED:
            return "the request had made this task before"
        case task_service_pb2.SUBMIT_OUTCOME_JOINED:
            return "joined an equal task that has not ended"
        case task_service_pb2.SUBMIT_OUTCOME_REUSED:
            return f"answered with the output of task {task.reused_from}"
        case _:
            return ""


def worker_table(workers: Sequence[Worker]) -> Iterable[str]:
    """Yield a line for each worker, below a heading."""
    yield f"{'WORKER':<34}{'HOST':<22}{'DEVICE':<9}{'SLOTS':<34}QUEUES"
    for worker in workers:
        slots = " ".join(f"{each.resource_class}:{each.busy}/{each.total}" for each in worker.slots)
        held = " (draining)" if worker.draining else " (paused)" if worker.paused else ""
        yield (
            f"{worker.id:<34}{f'{worker.host}:{worker.pid}':<22}{worker.device:<9}{slots:<34}"
            f"{', '.join(worker.queues)}{held}"
        )


def performance_table(found: GetPerformanceResponse) -> Iterable[str]:
    """Yield a line for each task type, below a heading."""
    counts = f"{'SUBMITTED':>10}{'SUCCEEDED':>10}{'FAILED':>8}{'CANCELLED':>10}{'RETRIES':>8}"
    yield f"{'TYPE':<20}{counts}{'MEAN RUN':>10}{'MAX RUN':>10}{'MEAN WAIT':>10}"
    for each in found.task_types:
        total = each.total
        yield (
            f"{each.task_type:<20}{total.submitted:>10}{total.succeeded:>10}{total.failed:>8}"
            f"{total.cancelled:>10}{total.retries:>8}"
            f"{_length(total.mean_run, told=total.HasField('mean_run')):>10}"
            f"{_length(total.max_run, told=total.HasField('max_run')):>10}"
            f"{_length(total.mean_wait, told=total.HasField('mean_wait')):>10}"
        )


def principal_text(principal: Principal) -> str:
    """Return whom a key or ticket stands for, one fact a line."""
    roles = [role_word(role) for role in principal.roles]
    lines = [
        ("key", principal.key_id),
        ("projects", ", ".join(principal.projects)),
        ("roles", ", ".join(roles)),
        ("expires", time_text(principal.expire_time) if principal.HasField("expire_time") else ""),
    ]
    return "\n".join(f"{name + ':':<10}{value}" for name, value in lines if value)


def snapshot_line(task: task_pb2.Task) -> str:
    """Return a task as it was when a watch of many began, on one line."""
    return f"{time_text(task.update_time)[11:]} {task.id} {task.task_type} is {state_word(task)}"


def event_line(event: task_event_pb2.TaskEvent) -> str:
    """Return what happened to which task, on one line."""
    return f"{time_text(event.time)[11:]} {event.task_id} {plain(event_text(event))}"


def delivery_table(deliveries: Sequence[Delivery]) -> Iterable[str]:
    """Yield a line for each delivery, below a heading."""
    yield f"{'STATE':<11}{'EVENT':<10}{'TRIES':>6}{'STATUS':>7}  {'CREATED':<21}ID and URL"
    for delivery in deliveries:
        try:
            state = operations_service_pb2.DeliveryState.Name(delivery.state)
        except ValueError:
            state = f"STATE_{delivery.state}"
        error = f"  ({delivery.last_error})" if delivery.last_error else ""
        yield (
            f"{state.removeprefix('DELIVERY_STATE_'):<11}{delivery.event:<10}{delivery.tries:>6}"
            f"{delivery.last_status or '-':>7}  {time_text(delivery.create_time):<21}"
            f"{delivery.id} {delivery.url}{plain(error)}"
        )


def task_type_table(types: Iterable[TaskType]) -> Iterable[str]:
    """Yield a line for each task type, below a heading."""
    yield f"{'TYPE':<20}{'QUEUE':<14}{'PRIORITY':>9}{'ATTEMPTS':>10}{'LIMIT':>9}  OUTPUT"
    for each in types:
        limit = show_span(each.policy.time_limit.ToTimedelta())
        yield (
            f"{each.name:<20}{each.policy.queue:<14}{each.policy.priority:>9}"
            f"{each.policy.max_attempts:>10}{limit:>9}  {each.policy.output_type}"
        )


def event_text(event: task_event_pb2.TaskEvent) -> str:
    """Return what happened, as one line without a time."""
    match event.WhichOneof("event"):
        case "task_submitted":
            return f"submitted to queue {event.task_submitted.queue}"
        case "attempt_started" | "attempt_failed" | "attempt_returned":
            return _attempt_text(event)
        case "cancel_requested":
            return "asked to stop"
        case "task_succeeded":
            source = event.task_succeeded.reused_from
            return f"succeeded with the output of task {source}" if source else "succeeded"
        case "context_retrieved" | "checkpoint_saved" | "media_registered":
            return _note_text(event)
        case "task_failed":
            return f"failed: {_failure_text(event.task_failed.failure)}"
        case "task_cancelled":
            return "cancelled"
        case "progress":
            return progress_text(event.progress)
        case None:
            return "something newer than this client"


def plain(text: str) -> str:
    """Return text from elsewhere without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def progress_text(progress: task_pb2.Progress) -> str:
    """Return how far a task is, such as ``50 %, 4 of 8, denoising``."""
    known = f"{progress.percentage:.0f} %, {progress.current} of {progress.total}"
    how_far = known if progress.total else str(progress.current)
    return f"{how_far}, {progress.message}" if progress.message else how_far


def time_text(timestamp: Timestamp) -> str:
    """Return a moment in UTC, to the second."""
    return timestamp.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _attempt_text(event: task_event_pb2.TaskEvent) -> str:
    started, failed, returned = event.attempt_started, event.attempt_failed, event.attempt_returned
    if event.HasField("attempt_started"):
        return f"attempt {started.attempt} started on {started.worker} ({started.device})"
    if event.HasField("attempt_failed"):
        return f"attempt {failed.attempt} failed: {_failure_text(failed.failure)}"
    return f"attempt {returned.attempt} was given back: {returned.reason}"


def _length(length: Duration, *, told: bool) -> str:
    return show_span(length.ToTimedelta()) if told else "-"


def _quality_text(quality: task_pb2.Quality) -> str:
    return f"{quality.score:.2f} by {quality.measure}"


def _note_text(event: task_event_pb2.TaskEvent) -> str:
    if event.HasField("media_registered"):
        return f"the media library has {len(event.media_registered.media)} of its artifacts"
    if event.HasField("checkpoint_saved"):
        checkpoint = event.checkpoint_saved.checkpoint
        return f"saved behind step {checkpoint.step} of {checkpoint.of}"
    context = event.context_retrieved.context
    known, similar = len(context.knowledge), len(context.similar_tasks)
    return f"was given what is known: {known} of the project, {similar} similar tasks"


def _failure_text(failure: task_pb2.Failure) -> str:
    return f"{failure_reason(failure)}: {failure.message}"


def _state_text(task: task_pb2.Task) -> str:
    if task.wait_reason == task_pb2.WAIT_REASON_UNSPECIFIED:
        return state_word(task)
    try:
        reason = task_pb2.WaitReason.Name(task.wait_reason).removeprefix("WAIT_REASON_")
    except ValueError:
        reason = f"REASON_{task.wait_reason}"
    place = f", {task.queue_position} before it" if task.HasField("queue_position") else ""
    return f"{state_word(task)} ({reason}{place})"
