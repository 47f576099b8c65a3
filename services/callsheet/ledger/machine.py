"""The rules: what may happen to a task, and what it then is.

*decide* functions take a task and a command and return the fact that follows, or refuse; *evolve*
folds a fact into the task. Nothing here reads a clock, makes an id or does I/O.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Final, assert_never

from msgspec.structs import replace

from callsheet.ledger.errors import IllegalTransition, LeaseLost
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
from callsheet.ledger.model import (
    NO_TIME,
    NO_USAGE,
    Backoff,
    Checkpoint,
    EndedAttempt,
    Failure,
    FailureReason,
    Quality,
    RegisteredMedia,
    Submission,
    Task,
    TaskContext,
    TaskState,
    Usage,
)

#: How many ended attempts a task remembers; older ones stay in its facts.
ENDED_ATTEMPTS_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """What a failure's reason says about trying again."""

    retryable: bool
    #: The most failed attempts worth making; the task's own limit may be lower.
    attempts: int = 100
    #: What the task type's back-off is multiplied by.
    delay_factor: float = 1.0


_R = FailureReason

#: Each reason's strategy, the only place that knows it.
RETRY: Final[Mapping[FailureReason, RetryStrategy]] = MappingProxyType(
    {
        _R.INVALID_INPUT: RetryStrategy(retryable=False),
        _R.MODEL_NOT_FOUND: RetryStrategy(retryable=False),
        # Once more, because another worker may have more memory.
        _R.OUT_OF_MEMORY: RetryStrategy(retryable=True, attempts=2),
        _R.TIME_LIMIT: RetryStrategy(retryable=True, attempts=2),
        _R.WORKER_LOST: RetryStrategy(retryable=True, delay_factor=0.0),
        _R.POISON: RetryStrategy(retryable=False),
        _R.DEPENDENCY_FAILED: RetryStrategy(retryable=False),
        _R.UNAVAILABLE: RetryStrategy(retryable=True),
        _R.RATE_LIMITED: RetryStrategy(retryable=True, delay_factor=2.0),
        _R.EXPIRED: RetryStrategy(retryable=False),
        _R.CANCELLED: RetryStrategy(retryable=False),
        _R.INTERNAL: RetryStrategy(retryable=True),
        _R.ARTIFACT_STORE: RetryStrategy(retryable=True),
        # Few, because it may be the task that breaks devices.
        _R.DEVICE_LOST: RetryStrategy(retryable=True, attempts=3),
    }
)


def submit(submission: Submission) -> TaskSubmitted:
    """Decide to accept a task."""
    return TaskSubmitted(submission)


def start(task: Task, *, worker: str, device: str, lease: timedelta) -> AttemptStarted:
    """Decide whether a new attempt may start. The claim script does the same."""
    if task.state is not TaskState.PENDING:
        raise IllegalTransition(task.id, task.state, "start")
    return AttemptStarted(task.attempt + 1, worker, device, lease)


def note_context(task: Task, *, attempt: int, context: TaskContext) -> ContextRetrieved | None:
    """Decide to keep what was retrieved for the attempt; None: it was kept before."""
    _fence(task, attempt)
    return None if task.context is not None else ContextRetrieved(attempt, context)


def save_checkpoint(task: Task, *, attempt: int, checkpoint: Checkpoint) -> CheckpointSaved | None:
    """Decide to note where the attempt's work can be gone on from; None: nobody will go on."""
    _fence(task, attempt)
    if task.cancel_requested or task.checkpoint == checkpoint:
        return None
    return CheckpointSaved(attempt, checkpoint)


def register_media(task: Task, media: tuple[RegisteredMedia, ...]) -> MediaRegistered | None:
    """Decide to note what the media library has of a task; None: nothing that was not noted."""
    if task.state is not TaskState.SUCCEEDED:
        raise IllegalTransition(task.id, task.state, "register the media of")
    noted = {each.uri for each in task.media}
    new = tuple(each for each in media if each.uri not in noted)
    return MediaRegistered(new) if new else None


def reuse(task: Task, source: Task) -> TaskSucceeded:
    """Decide that a waiting task is answered with the output of an equal one."""
    if task.state is not TaskState.PENDING:
        raise IllegalTransition(task.id, task.state, "answer by reuse")
    if source.state is not TaskState.SUCCEEDED or source.reused_from:
        raise IllegalTransition(source.id, source.state, "reuse")
    return TaskSucceeded(0, source.output, NO_USAGE, source.quality, source.id)


def succeed(
    task: Task, *, attempt: int, output: bytes, usage: Usage, quality: Quality | None = None
) -> TaskSucceeded | TaskCancelled:
    """Decide that the attempt's output is the task's; a task that was asked to stop has none."""
    _fence(task, attempt)
    if task.cancel_requested:
        return TaskCancelled(task.cancel_reason)
    return TaskSucceeded(attempt, output, usage, quality)


def fail(
    task: Task,
    *,
    attempt: int,
    failure: Failure,
    backoff: Backoff,
    jitter: float,
    is_hopeless: bool = False,
) -> AttemptFailed | TaskFailed | TaskCancelled:
    """Decide what follows a failed attempt; *jitter* is a random number in [0, 1).

    It *is_hopeless* when no worker there is could do better.
    """
    _fence(task, attempt)
    if task.cancel_requested:
        return TaskCancelled(task.cancel_reason)
    strategy = RETRY[failure.reason]
    failures = task.failures + 1
    most = min(task.submission.max_attempts, strategy.attempts)
    if is_hopeless or not strategy.retryable or failures >= most:
        return TaskFailed(attempt, replace(_verdict(task, failure), retry_delay=None))
    delay = strategy.delay_factor * _delay(backoff, failures=failures, jitter=jitter)
    return AttemptFailed(attempt, replace(failure, retryable=True, retry_delay=delay))


def hand_back(task: Task, *, attempt: int, reason: str) -> AttemptReturned | TaskCancelled:
    """Decide that an attempt ends unfinished without counting as a failure."""
    _fence(task, attempt)
    if task.cancel_requested:
        return TaskCancelled(task.cancel_reason)
    return AttemptReturned(attempt, reason)


def request_cancel(task: Task, *, reason: str) -> CancelRequested | TaskCancelled | None:
    """Decide what asking to stop does; None: it was asked before."""
    match task.state:
        case TaskState.PENDING:
            return TaskCancelled(reason)
        case TaskState.RUNNING:
            return None if task.cancel_requested else CancelRequested(reason)
        case TaskState.SUCCEEDED | TaskState.FAILED | TaskState.CANCELLED:
            raise IllegalTransition(task.id, task.state, "cancel")
        case _:
            assert_never(task.state)


def confirm_cancel(task: Task, *, attempt: int) -> TaskCancelled:
    """Decide that the attempt has stopped as asked."""
    _fence(task, attempt)
    if not task.cancel_requested:
        raise IllegalTransition(task.id, task.state, "confirm the cancellation of")
    return TaskCancelled(task.cancel_reason)


def expire(task: Task) -> TaskFailed:
    """Decide that a task waited too long."""
    if task.state is not TaskState.PENDING:
        raise IllegalTransition(task.id, task.state, "expire")
    message = f"the task was still waiting after {task.submission.expire_after}"
    return TaskFailed(task.attempt, Failure(FailureReason.EXPIRED, message))


def retry(task: Task) -> Submission:
    """Decide whether a task may be repeated, and return the submission that does so.

    Its output is offered to nobody: the models it was digested by may be others by now.
    """
    if task.state not in (TaskState.FAILED, TaskState.CANCELLED):
        raise IllegalTransition(task.id, task.state, "retry")
    return replace(task.submission, retry_of=task.id, delay=NO_TIME, reuse=None)


def at(task: Task, time: datetime) -> Task:
    """Return a new task with the time that the store stamped."""
    return replace(task, create_time=time, update_time=time)


def fold(task_id: str, facts: Iterable[tuple[Event, datetime]]) -> Task:
    """Return what facts, oldest first and each with its time, make of a task."""
    task: Task | None = None
    for event, time in facts:
        task = evolve(task, event, time=time, task_id=task_id)
    if task is None:
        raise ValueError(f"task {task_id} has no facts")
    return task


def evolve(task: Task | None, event: Event, *, time: datetime, task_id: str = "") -> Task:
    """Return the task after the fact."""
    if isinstance(event, TaskSubmitted):
        return _submitted(task_id, event.submission, time)
    if task is None:
        raise ValueError(f"the first fact of task {task_id} must be its submission")
    # One copy for each fact: this is what every commit and every read of a task costs.
    after = partial(
        replace, task, sequence=task.sequence + 1, update_time=time, ready_delay=NO_TIME
    )
    match event:
        case AttemptStarted(attempt, worker, device):
            return after(
                state=TaskState.RUNNING,
                attempt=attempt,
                worker=worker,
                device=device,
                start_time=time,
                context=None,
                context_time=None,
            )
        case AttemptFailed(attempt, failure):
            return after(
                state=TaskState.PENDING,
                failures=task.failures + 1,
                ready_delay=failure.retry_delay or NO_TIME,
                ended_attempts=_ended(task, attempt, failure, time),
            )
        case AttemptReturned():
            return after(state=TaskState.PENDING)
        case CancelRequested(reason):
            return after(cancel_requested=True, cancel_reason=reason)
        case ContextRetrieved(_, context):
            return after(context=context, context_time=time)
        case CheckpointSaved() | MediaRegistered():
            return _noted(event, task, after)
        case TaskSucceeded() | TaskFailed() | TaskCancelled():
            return _ended_task(event, after)
        case _:
            assert_never(event)


def _noted(
    event: CheckpointSaved | MediaRegistered, task: Task, after: Callable[..., Task]
) -> Task:
    match event:
        case CheckpointSaved(_, checkpoint):
            return after(checkpoint=checkpoint, checkpoint_failures=task.failures)
        case MediaRegistered(media):
            return after(media=task.media + media, ended_before=task.end_time)
        case _:
            assert_never(event)


def _ended_task(
    event: TaskSucceeded | TaskFailed | TaskCancelled, after: Callable[..., Task]
) -> Task:
    after = partial(after, checkpoint=None, checkpoint_failures=0)
    match event:
        case TaskSucceeded(_, output, usage, quality, reused_from):
            return after(
                state=TaskState.SUCCEEDED,
                output=output,
                usage=usage,
                quality=quality,
                reused_from=reused_from,
            )
        case TaskFailed(_, failure):
            return after(state=TaskState.FAILED, failure=failure)
        case TaskCancelled(reason):
            return after(state=TaskState.CANCELLED, cancel_requested=True, cancel_reason=reason)
        case _:
            assert_never(event)


def _submitted(task_id: str, submission: Submission, time: datetime) -> Task:
    return Task(
        id=task_id,
        submission=submission,
        state=TaskState.PENDING,
        sequence=1,
        create_time=time,
        update_time=time,
        ready_delay=submission.delay,
    )


def _ended(task: Task, attempt: int, failure: Failure, time: datetime) -> tuple[EndedAttempt, ...]:
    ended = (*task.ended_attempts, EndedAttempt(attempt, failure, time))
    return ended[-ENDED_ATTEMPTS_KEPT:]


def _fence(task: Task, attempt: int) -> None:
    if task.state is not TaskState.RUNNING or task.attempt != attempt:
        raise LeaseLost(task.id, attempt)


def _delay(backoff: Backoff, *, failures: int, jitter: float) -> timedelta:
    """Return the wait before the next attempt, spread by a fifth either way."""
    if backoff.waits:
        wait = backoff.waits[min(failures, len(backoff.waits)) - 1].total_seconds()
    else:
        # Capped before it grows: 2.0 ** 2000 overflows.
        growth = backoff.multiplier ** min(failures - 1, 64)
        wait = min(backoff.initial.total_seconds() * growth, backoff.maximum.total_seconds())
    return timedelta(seconds=wait * (0.8 + 0.4 * jitter))


def _verdict(task: Task, failure: Failure) -> Failure:
    """Name a task that killed every one of its several attempts a poison."""
    ended = [*(ended.failure.reason for ended in task.ended_attempts), failure.reason]
    if len(ended) > 1 and all(reason is FailureReason.WORKER_LOST for reason in ended):
        message = f"every one of {len(ended)} attempts died; the last one: {failure.message}"
        return Failure(FailureReason.POISON, message)
    return failure
