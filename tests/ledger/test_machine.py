"""The rules, on their own."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from callsheet.ledger import machine
from callsheet.ledger.errors import IllegalTransition, LeaseLost, LedgerError
from callsheet.ledger.events import (
    AttemptFailed,
    AttemptReturned,
    CancelRequested,
    CheckpointSaved,
    ContextRetrieved,
    Event,
    TaskCancelled,
    TaskFailed,
    TaskSucceeded,
)
from callsheet.ledger.model import (
    FINAL,
    NEXT_STATES,
    Checkpoint,
    Failure,
    FailureReason,
    Knowledge,
    Quality,
    Submission,
    Task,
    TaskContext,
    TaskState,
    Usage,
)
from tests.support.machine_steps import (
    BACKOFF,
    LEASE,
    NOON,
    SUBMISSION,
    after,
    failed,
    pending,
    started,
)


@pytest.fixture
def running() -> Task:
    return started(pending())


def test_a_worker_that_lost_its_lease_cannot_finish_the_task(running: Task) -> None:
    """The second worker's output stands; the first one's is refused."""
    # Given a second worker, started after the first one was given up
    task = started(after(running, failed(running, FailureReason.WORKER_LOST)))
    # When the first one comes back, then it is refused
    with pytest.raises(LeaseLost):
        machine.succeed(task, attempt=1, output=b"", usage=Usage())
    assert machine.succeed(task, attempt=2, output=b"", usage=Usage())


@pytest.mark.parametrize("state", [state for state in TaskState if state in FINAL])
def test_a_final_task_refuses_every_command(running: Task, state: TaskState) -> None:
    ends: dict[TaskState, Event] = {
        TaskState.SUCCEEDED: TaskSucceeded(1, b"", Usage()),
        TaskState.FAILED: TaskFailed(1, Failure(FailureReason.INTERNAL, "")),
        TaskState.CANCELLED: TaskCancelled(""),
    }
    task = after(running, ends[state])
    commands: list[Callable[[], object]] = [
        lambda: machine.start(task, worker="w", device="cpu", lease=LEASE),
        lambda: machine.succeed(task, attempt=1, output=b"", usage=Usage()),
        lambda: failed(task, FailureReason.INTERNAL),
        lambda: machine.hand_back(task, attempt=1, reason=""),
        lambda: machine.request_cancel(task, reason=""),
        lambda: machine.confirm_cancel(task, attempt=1),
        lambda: machine.expire(task),
    ]
    for command in commands:
        with pytest.raises((IllegalTransition, LeaseLost)):
            command()


def test_every_reason_has_one_strategy() -> None:
    assert set(machine.RETRY) == set(FailureReason)


def test_a_failed_attempt_waits_longer_each_time_and_never_longer_than_the_maximum() -> None:
    delays: list[timedelta] = []
    task = pending()
    submission = Submission(
        project="p",
        task_type="ping",
        spec=b"",
        queue="q",
        priority=5,
        max_attempts=99,
        time_limit=LEASE,
    )
    task = machine.evolve(None, machine.submit(submission), time=NOON, task_id="t")
    for _ in range(5):
        task = started(task)
        event = failed(task, FailureReason.INTERNAL)
        assert isinstance(event, AttemptFailed)
        assert event.failure.retry_delay is not None
        delays.append(event.failure.retry_delay)
        task = after(task, event)
    assert delays == [timedelta(seconds=wait) for wait in (10, 20, 40, 60, 60)]


def test_jitter_spreads_the_wait_by_a_fifth_either_way(running: Task) -> None:
    for jitter, wait in ((0.0, 8), (1.0, 12)):
        event = failed(running, FailureReason.INTERNAL, jitter)
        assert isinstance(event, AttemptFailed)
        assert event.failure.retry_delay == timedelta(seconds=wait)


def test_the_attempt_limit_counts_failures_and_not_hand_backs() -> None:
    # Given a task that was handed back more often than it may fail
    task = pending()
    for _ in range(5):
        task = started(task)
        task = after(task, machine.hand_back(task, attempt=task.attempt, reason="shutdown"))
    # When it fails as often as it may
    outcomes: list[type[Event]] = []
    for _ in range(3):
        task = started(task)
        event = failed(task, FailureReason.INTERNAL)
        outcomes.append(type(event))
        task = after(task, event)
    # Then only the last one is final
    assert outcomes == [AttemptFailed, AttemptFailed, TaskFailed]
    assert (task.attempt, task.failures, task.state) == (8, 2, TaskState.FAILED)


@pytest.mark.parametrize(
    ("reason", "attempts"),
    [
        (FailureReason.INVALID_INPUT, 1),
        (FailureReason.MODEL_NOT_FOUND, 1),
        (FailureReason.OUT_OF_MEMORY, 2),
        (FailureReason.DEVICE_LOST, 3),
        (FailureReason.INTERNAL, 5),
    ],
)
def test_a_reason_says_how_many_attempts_are_worth_making(
    reason: FailureReason, attempts: int
) -> None:
    task = pending()
    task = replace(task, submission=replace(task.submission, max_attempts=5))
    for _ in range(attempts - 1):
        task = started(task)
        event = failed(task, reason)
        assert isinstance(event, AttemptFailed)
        task = after(task, event)
    assert isinstance(failed(started(task), reason), TaskFailed)


def test_a_lost_worker_costs_no_wait(running: Task) -> None:
    event = failed(running, FailureReason.WORKER_LOST)
    assert isinstance(event, AttemptFailed)
    assert event.failure.retry_delay == timedelta(0)


def test_a_task_that_kills_every_worker_is_a_poison() -> None:
    task = pending()
    for _ in range(3):
        task = started(task)
        event = failed(task, FailureReason.WORKER_LOST)
        task = after(task, event)
    assert task.failure is not None
    assert task.failure.reason is FailureReason.POISON
    assert not task.failure.retryable


def test_a_task_that_also_failed_otherwise_is_no_poison() -> None:
    task = pending()
    for reason in (FailureReason.INTERNAL, FailureReason.WORKER_LOST, FailureReason.WORKER_LOST):
        task = started(task)
        task = after(task, failed(task, reason))
    assert task.failure is not None
    assert task.failure.reason is FailureReason.WORKER_LOST


@pytest.mark.parametrize(
    "reason", [reason for reason, how in machine.RETRY.items() if not how.retryable]
)
def test_a_hopeless_failure_is_final_at_once(running: Task, reason: FailureReason) -> None:
    assert isinstance(failed(running, reason), TaskFailed)


def test_a_pending_task_is_cancelled_at_once() -> None:
    assert machine.request_cancel(pending(), reason="no") == TaskCancelled("no")


def test_a_running_task_is_asked_once(running: Task) -> None:
    asked = after(running, machine.request_cancel(running, reason="no"))
    assert asked.cancel_requested
    assert asked.state is TaskState.RUNNING
    assert machine.request_cancel(asked, reason="again") is None


def test_whatever_a_worker_says_after_a_cancel_request_the_task_is_cancelled(
    running: Task,
) -> None:
    """Who was told that the task stops is never shown a success afterwards."""
    asked = after(running, CancelRequested("no"))
    assert machine.succeed(asked, attempt=1, output=b"", usage=Usage()) == TaskCancelled("no")
    assert failed(asked, FailureReason.WORKER_LOST) == TaskCancelled("no")
    assert machine.hand_back(asked, attempt=1, reason="") == TaskCancelled("no")
    assert machine.confirm_cancel(asked, attempt=1) == TaskCancelled("no")


def test_a_task_nobody_asked_to_stop_cannot_confirm_it(running: Task) -> None:
    with pytest.raises(IllegalTransition):
        machine.confirm_cancel(running, attempt=1)


def test_only_a_waiting_task_expires(running: Task) -> None:
    event = machine.expire(pending())
    assert event.failure.reason is FailureReason.EXPIRED
    with pytest.raises(IllegalTransition):
        machine.expire(running)


def test_only_a_failed_or_cancelled_task_is_retried(running: Task) -> None:
    task = after(pending(), TaskCancelled(""))
    assert machine.retry(task).retry_of == "t-1"
    with pytest.raises(IllegalTransition):
        machine.retry(running)


CONTEXT = TaskContext((Knowledge("a", "the fox is red", 0.5),))
CHECKPOINT = Checkpoint("k", "d", 3, step=4, of=8)


def test_a_waiting_task_may_be_answered_with_an_output_that_was_made(running: Task) -> None:
    quality = Quality("m-1", 0.5, {})
    source = after(
        running, machine.succeed(running, attempt=1, output=b"o", usage=Usage(1), quality=quality)
    )
    event = machine.reuse(pending(), source)
    assert event == TaskSucceeded(0, b"o", Usage(), quality, source.id)
    task = after(pending(), event)
    assert (task.state, task.reused_from, task.quality) == (TaskState.SUCCEEDED, "t-1", quality)
    # Not what is used itself, nor a task that runs, nor by one that does not wait.
    for taker, giver in ((pending(), task), (pending(), running), (running, source)):
        with pytest.raises(IllegalTransition):
            machine.reuse(taker, giver)


def test_a_task_without_facts_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no facts"):
        machine.fold("t-1", [])


class TaskLife(RuleBasedStateMachine):
    """Any order of commands keeps the promises of the state machine."""

    @initialize()
    def submit(self) -> None:
        self.facts: list[Event] = [machine.submit(SUBMISSION)]
        self.history = [machine.fold("t-1", [(self.facts[0], NOON)])]

    @property
    def task(self) -> Task:
        return self.history[-1]

    def happen(self, decide: Callable[[], Event | None]) -> None:
        try:
            event = decide()
        except LedgerError:
            return
        if event is not None:
            self.facts.append(event)
            self.history.append(machine.evolve(self.task, event, time=NOON))

    @rule()
    def start(self) -> None:
        self.happen(lambda: machine.start(self.task, worker="w", device="cpu", lease=LEASE))

    @rule(behind=st.integers(0, 2))
    def succeed(self, behind: int) -> None:
        attempt = self.task.attempt - behind
        self.happen(lambda: machine.succeed(self.task, attempt=attempt, output=b"", usage=Usage()))

    @rule(reason=st.sampled_from(FailureReason), behind=st.integers(0, 1))
    def fail(self, reason: FailureReason, behind: int) -> None:
        self.happen(
            lambda: machine.fail(
                self.task,
                attempt=self.task.attempt - behind,
                failure=Failure(reason, ""),
                backoff=BACKOFF,
                jitter=0.5,
            )
        )

    @rule(behind=st.integers(0, 1))
    def note_context(self, behind: int) -> None:
        attempt = self.task.attempt - behind
        self.happen(lambda: machine.note_context(self.task, attempt=attempt, context=CONTEXT))

    @rule(behind=st.integers(0, 1), step=st.integers(0, 2))
    def save_checkpoint(self, behind: int, step: int) -> None:
        attempt, checkpoint = self.task.attempt - behind, replace(CHECKPOINT, step=step)
        self.happen(
            lambda: machine.save_checkpoint(self.task, attempt=attempt, checkpoint=checkpoint)
        )

    @rule()
    def hand_back(self) -> None:
        self.happen(lambda: machine.hand_back(self.task, attempt=self.task.attempt, reason=""))

    @rule()
    def cancel(self) -> None:
        self.happen(lambda: machine.request_cancel(self.task, reason=""))

    @rule()
    def confirm(self) -> None:
        self.happen(lambda: machine.confirm_cancel(self.task, attempt=self.task.attempt))

    @rule()
    def expire(self) -> None:
        self.happen(lambda: machine.expire(self.task))

    @invariant()
    def only_legal_steps(self) -> None:
        for before, later in zip(self.history, self.history[1:], strict=False):
            assert later.state is before.state or later.state in NEXT_STATES[before.state]
            assert not before.is_final

    @invariant()
    def what_is_known_is_of_the_latest_attempt(self) -> None:
        noted = [fact for fact in self.facts if isinstance(fact, ContextRetrieved)]
        if self.task.context is not None:
            assert noted[-1].attempt == self.task.attempt

    @invariant()
    def a_checkpoint_is_the_newest_and_gone_at_the_end(self) -> None:
        kept = [fact.checkpoint for fact in self.facts if isinstance(fact, CheckpointSaved)]
        assert self.task.checkpoint == (kept[-1] if kept and not self.task.is_final else None)

    @invariant()
    def sequences_have_no_gaps(self) -> None:
        assert [task.sequence for task in self.history] == list(range(1, len(self.facts) + 1))

    @invariant()
    def facts_fold_to_the_task(self) -> None:
        assert machine.fold("t-1", [(fact, NOON) for fact in self.facts]) == self.task

    @invariant()
    def failures_are_bounded(self) -> None:
        assert self.task.failures < SUBMISSION.max_attempts

    @invariant()
    def attempts_are_numbered_from_one(self) -> None:
        returned = sum(isinstance(fact, AttemptReturned) for fact in self.facts)
        assert self.task.attempt <= SUBMISSION.max_attempts + returned


TestTaskLife = TaskLife.TestCase
