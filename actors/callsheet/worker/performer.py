"""Runs one attempt from its claim to its recorded outcome. Dramatiq's threads call it."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from datetime import datetime, timedelta
from typing import Final

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from msgspec.structs import replace
from structlog.contextvars import bound_contextvars

from callsheet.internal.v1.pipe_pb2 import AttemptEnded, RunAttempt
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.errors import LeaseLost, LedgerError
from callsheet.ledger.messages import (
    checkpoint_to_proto,
    context_to_proto,
    failure_from_proto,
    quality_from_proto,
    usage_from_proto,
)
from callsheet.ledger.model import Failure, FailureReason, Task, TaskContext, Usage
from callsheet.runtime.trace import continue_trace
from callsheet.v1 import task_pb2
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.checkpoints import CheckpointRecorder
from callsheet.worker.context_source import ContextSource
from callsheet.worker.in_worker import run_in_worker
from callsheet.worker.lease_keeper import LeaseKeeper
from callsheet.worker.progress import ProgressReporter
from callsheet.worker.runner_batch import KilledForAnother, RunnerBatch
from callsheet.worker.runner_host import RunnerHost, RunnerUnavailable
from callsheet.worker.running import Batch, Running, RunningAttempts, StopCause

#: How long a thread waits for the loop beyond what the attempt itself may take: the loop keeps
#: trying to record an outcome for an hour while the ledger is away.
_RECORDING: Final = timedelta(hours=2)
#: How long a slot stays taken when no runner can be started for it.
WITHOUT_RUNNER: Final = timedelta(seconds=30)

#: What befalls a runner as a whole.
_OF_THE_RUNNER: Final = frozenset(
    {
        task_pb2.FAILURE_REASON_OUT_OF_MEMORY,
        task_pb2.FAILURE_REASON_TIME_LIMIT,
        task_pb2.FAILURE_REASON_WORKER_LOST,
    }
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Performer:
    """Performs attempts for Dramatiq's threads; what is asynchronous happens on *loop*."""

    def __init__(
        self,
        attempts: Attempts,
        running: RunningAttempts,
        keeper: LeaseKeeper,
        hosts: Mapping[ResourceClass, Sequence[RunnerHost]],
        *,
        memory_limit_bytes: int | None,
        now: Callable[[], datetime],
        loop: asyncio.AbstractEventLoop,
        context_source: ContextSource | None = None,
    ) -> None:
        self._attempts = attempts
        self._running = running
        self._keeper = keeper
        self._hosts = hosts
        self._memory_limit_bytes = memory_limit_bytes
        self._now = now
        self._loop = loop
        self._context_source = context_source
        self._concluding: set[asyncio.Task[None]] = set()
        #: The runners that have an attempt, or are started for one.
        self._taken: set[RunnerHost] = set()

    def perform(self, task_id: str, attempt: int) -> None:
        """Run the attempt, and see to it that its outcome is recorded."""
        running = self._running.find(task_id, attempt)
        if running is None:
            return
        trace = continue_trace(running.task.submission.trace_parent)
        with bound_contextvars(task_id=task_id, attempt=attempt, trace_id=trace.trace_id):
            if running.kind.resource_class is ResourceClass.WORKER:
                self._perform_here(running)
            else:
                self._perform_in_runner(running, str(trace))

    async def hand_back(self, running: Running, *, reason: str) -> None:
        """Give back an attempt that did not run."""
        back = self._attempts.hand_back(running.task, attempt=running.attempt, reason=reason)
        try:
            await self._recorded(back)
        finally:
            self._running.remove(running)

    def _perform_here(self, running: Running) -> None:
        reporter = self._reporter(running)

        def on_progress(progress: task_pb2.Progress) -> None:
            self._loop.call_soon_threadsafe(reporter.report, progress)

        try:
            ended = run_in_worker(running, on_progress=on_progress)
        except Exception:  # noqa: BLE001  # a defect here must not keep the lease for ever
            _log.exception("attempt_broken")
            ended = AttemptEnded(task_id=running.task.id)
        # Not waited for: this thread is free for the next attempt while the outcome is recorded.
        self._loop.call_soon_threadsafe(self._conclude_soon, running, ended, reporter)

    def _perform_in_runner(self, running: Running, trace_parent: str) -> None:
        longest = running.task.submission.time_limit + running.kind.grace_period + _RECORDING
        if running.batch is None:
            performing = self._performed_in_runner(running, trace_parent)
        else:
            performing = self._performed_together(running.batch)
        future = asyncio.run_coroutine_threadsafe(performing, self._loop)
        future.result(timeout=longest.total_seconds())

    async def _performed_in_runner(self, running: Running, trace_parent: str) -> None:
        reporter = self._reporter(running)
        try:
            with self._idle_host(running.kind.resource_class) as host:
                ended = await self._ended_by(running, host, trace_parent, reporter, runner=host)
        except RunnerUnavailable as error:
            await self._without_runner(running, str(error))
            return
        await self._conclude(running, ended, reporter)

    async def _ended_by(
        self,
        running: Running,
        host: RunnerHost,
        trace_parent: str,
        reporter: ProgressReporter,
        *,
        runner: RunnerHost | RunnerBatch,
    ) -> AttemptEnded:
        """Return how the attempt ended. Raises RunnerUnavailable, KilledForAnother."""
        try:
            context = await self._known_at_start(running, host)
            frame = _run_frame(running, trace_parent, context)
            return await self._run(running, runner, frame, reporter)
        except (RunnerUnavailable, KilledForAnother):
            raise
        except Exception:  # noqa: BLE001  # a defect here must not keep the lease for ever
            _log.exception("attempt_broken")
            return AttemptEnded(task_id=running.task.id)

    async def _performed_together(self, batch: Batch) -> None:
        """Return when the batch has ended; whoever comes first performs all of it."""
        if batch.performing is None:
            # What it logs is not of the attempt that happened to come first.
            batch.performing = asyncio.create_task(self._perform_batch(batch), context=Context())
        await asyncio.shield(batch.performing)

    async def _perform_batch(self, batch: Batch) -> None:
        members = batch.members
        _log.info("batch_started", tasks=[member.task.id for member in members])
        results: Sequence[BaseException | None] = ()
        try:
            with (
                self._idle_host(members[0].kind.resource_class) as host,
                host.together([member.task.id for member in members]) as runner,
            ):
                performing = (self._perform_member(each, host, runner) for each in members)
                results = await asyncio.gather(*performing, return_exceptions=True)
        except Exception as error:  # noqa: BLE001  # a defect here must not keep the leases for ever
            results = [error] * len(members)
        finally:
            batch.end()
        for member, error in zip(members, results, strict=True):
            if error is not None:
                _log.error("attempt_broken", task_id=member.task.id, exc_info=error)
                ended = AttemptEnded(task_id=member.task.id)
                await self._conclude(member, ended, self._reporter(member))

    async def _perform_member(
        self, running: Running, host: RunnerHost, runner: RunnerBatch
    ) -> None:
        """Perform one attempt of a batch; what may be the fault of another one is no failure."""
        trace = continue_trace(running.task.submission.trace_parent)
        with bound_contextvars(
            task_id=running.task.id, attempt=running.attempt, trace_id=trace.trace_id
        ):
            reporter = self._reporter(running)
            try:
                ended = await self._ended_by(running, host, str(trace), reporter, runner=runner)
            except RunnerUnavailable as error:
                await self._without_runner(running, str(error))
                return
            except KilledForAnother:
                ended = AttemptEnded(task_id=running.task.id, stopped=True)
            finally:
                runner.leave(running.task.id)
            if running.cause is None and _may_be_of_another(ended):
                # It was tried: the next time it runs alone, and fails if it is to blame.
                await reporter.close()
                running.concluding = True
                await self.hand_back(running, reason="the runner did not end its batch")
                return
            await self._conclude(running, ended, reporter)

    @contextmanager
    def _idle_host(self, resource_class: ResourceClass) -> Generator[RunnerHost]:
        """Have an idle runner to oneself, from before it starts: a start takes seconds."""
        # A slot was taken for the attempt, so one of the class's runners is idle.
        host = next(host for host in self._hosts[resource_class] if host not in self._taken)
        self._taken.add(host)
        try:
            yield host
        finally:
            self._taken.discard(host)

    async def _known_at_start(self, running: Running, host: RunnerHost) -> TaskContext | None:
        """Start the runner, and ask meanwhile what is known: neither is the attempt's own time."""
        asking = asyncio.create_task(self._known(running))
        try:
            await host.start()
            return await asking
        finally:
            asking.cancel()

    async def _known(self, running: Running) -> TaskContext | None:
        """Return what is known that bears on the task, once the task says so too; None: nothing."""
        if self._context_source is None or not running.kind.wants_context:
            return None
        context = await self._context_source.about(running.task)
        if context is None:
            return None
        try:
            async with asyncio.timeout(self._context_source.budget.total_seconds()):
                task = await self._attempts.note_context(
                    running.task, attempt=running.attempt, context=context
                )
        except LeaseLost:
            self._keeper.look_soon(running)
            return None
        except (LedgerError, TimeoutError) as error:
            # A handler is told nothing that its task does not tell.
            _log.warning("context_not_recorded", reason=str(error) or "it took too long")
            return None
        if task.sequence > running.task.sequence:
            running.task = task
        return context

    async def _without_runner(self, running: Running, reason: str) -> None:
        """Give the attempt back, and keep its slot for a while: other workers may be healthy."""
        _log.error("runner_unavailable", reason=reason)
        self._running.keep_slot(running)
        await self.hand_back(running, reason=f"no runner: {reason}")
        if running.cause is not StopCause.SHUTDOWN:
            await asyncio.sleep(WITHOUT_RUNNER.total_seconds())
        running.free_slot()

    async def _run(
        self,
        running: Running,
        runner: RunnerHost | RunnerBatch,
        frame: RunAttempt,
        reporter: ProgressReporter,
    ) -> AttemptEnded:
        if running.cause is not None:
            return AttemptEnded(task_id=running.task.id, stopped=True)
        running.stop_runner = lambda: runner.stop(running.task.id)
        checkpoints = CheckpointRecorder(self._attempts, running, moved_on=self._keeper.look_soon)
        is_done = False
        try:
            ended = await runner.run(
                frame,
                time_limit=running.task.submission.time_limit,
                grace_period=running.kind.grace_period,
                memory_limit_bytes=running.kind.memory_limit_bytes or self._memory_limit_bytes,
                on_progress=reporter.report,
                on_checkpoint=checkpoints.saved,
            )
            is_done = ended.HasField("output")
            return ended
        finally:
            running.stop_runner = None
            await checkpoints.close(drop=is_done)

    def _conclude_soon(
        self, running: Running, ended: AttemptEnded, reporter: ProgressReporter
    ) -> None:
        running.free_slot()
        concluding = self._loop.create_task(self._conclude(running, ended, reporter))
        self._concluding.add(concluding)
        concluding.add_done_callback(self._concluding.discard)

    async def _conclude(
        self, running: Running, ended: AttemptEnded, reporter: ProgressReporter
    ) -> None:
        """Record how the attempt ended; whatever goes wrong, its lease is renewed no more."""
        try:
            await self._record(running, ended, reporter)
        except Exception:  # noqa: BLE001  # a defect here must not keep the lease for ever
            _log.exception("attempt_not_concluded")
        finally:
            self._running.remove(running)

    async def _record(
        self, running: Running, ended: AttemptEnded, reporter: ProgressReporter
    ) -> None:
        await reporter.close()
        running.concluding = True
        task, attempt = running.task, running.attempt
        if running.cause is StopCause.LEASE_LOST:
            _log.warning("lease_lost", worker=self._attempts.worker)
            return
        match ended.WhichOneof("outcome"):
            case "output":
                recording = self._attempts.succeed(
                    task,
                    attempt=attempt,
                    output=ended.output.SerializeToString(deterministic=True),
                    usage=_usage(task, ended),
                    quality=(
                        quality_from_proto(ended.quality) if ended.HasField("quality") else None
                    ),
                    progress=reporter.newest,
                )
            case "failure":
                failure = failure_from_proto(ended.failure)
                recording = self._attempts.fail(task, attempt=attempt, failure=failure)
            case "stopped" if running.cause is StopCause.CANCELLED:
                recording = self._attempts.confirm_cancel(task, attempt=attempt)
            case "stopped" if running.cause is StopCause.SHUTDOWN:
                reason = "the worker shuts down"
                recording = self._attempts.hand_back(task, attempt=attempt, reason=reason)
            case _:
                failure = Failure(FailureReason.INTERNAL, "the attempt ended without an outcome")
                recording = self._attempts.fail(task, attempt=attempt, failure=failure)
        await self._recorded(recording)

    async def _recorded(self, recording: Coroutine[object, object, Task]) -> None:
        try:
            task = await recording
            _log.debug("attempt_ended", state=task.state.value)
        except LeaseLost:
            _log.warning("lease_lost", worker=self._attempts.worker)
        except LedgerError as error:
            # The lease will run out, and the task be taken up again.
            _log.error("outcome_not_recorded", reason=str(error))

    def _reporter(self, running: Running) -> ProgressReporter:
        return ProgressReporter(
            self._attempts, running, now=self._now, moved_on=self._keeper.look_soon
        )


def _may_be_of_another(ended: AttemptEnded) -> bool:
    """Whether that end of an attempt that ran with others may be what one of those did."""
    if ended.WhichOneof("outcome") == "stopped":
        return True
    return ended.HasField("failure") and ended.failure.reason in _OF_THE_RUNNER


def _run_frame(running: Running, trace_parent: str, context: TaskContext | None) -> RunAttempt:
    submission = running.task.submission
    spec = TaskSpec.FromString(submission.spec)
    input_message: Message = getattr(spec, submission.task_type)
    packed = AnyMessage()
    packed.Pack(input_message)
    checkpoint = running.task.resumes_from
    return RunAttempt(
        task_id=running.task.id,
        attempt=running.attempt,
        project=submission.project,
        task_type=submission.task_type,
        input=packed,
        trace_parent=trace_parent,
        context=None if context is None else context_to_proto(context),
        checkpoint=None if checkpoint is None else checkpoint_to_proto(checkpoint),
    )


def _usage(task: Task, ended: AttemptEnded) -> Usage:
    waited = timedelta(0)
    if task.start_time is not None:
        # The scripts stamp times of one call a microsecond apart, so this may be just below zero.
        waited = max(waited, task.start_time - task.create_time)
    return replace(usage_from_proto(ended.usage), queue_seconds=waited.total_seconds())
