"""The steps that a task of the fake plane takes."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from callsheet.client.submission import to_duration
from callsheet.v1 import task_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass(frozen=True)
class ReportProgress:
    """The running attempt comes further."""

    progress: task_pb2.Progress


@dataclass(frozen=True)
class Succeed:
    """The task ends with an output."""

    output: Message


@dataclass(frozen=True)
class Fail:
    """The attempt fails; when it is final, the task does."""

    failure: task_pb2.Failure
    final: bool


@dataclass(frozen=True)
class Hold:
    """The task waits until the test lets it go on."""

    #: Whether it waits before its first attempt starts.
    pending: bool
    _released: Future[None] = field(default_factory=Future[None])

    def release(self) -> None:
        """Let the tasks that wait here go on, and those to come. May be called from any thread."""
        if not self._released.done():
            self._released.set_result(None)

    async def passed(self) -> None:
        """Return when it is released."""
        await asyncio.shield(asyncio.wrap_future(self._released))


#: One step of a script.
Step: TypeAlias = ReportProgress | Succeed | Fail | Hold


def progress(current: int, *, total: int = 0, message: str = "") -> Step:
    """Report progress."""
    percentage = 100 * current / total if total else 0
    return ReportProgress(
        task_pb2.Progress(current=current, total=total, percentage=percentage, message=message)
    )


def succeed(output: Message) -> Step:
    """End the task with an output message."""
    return Succeed(output)


def fail(
    reason: task_pb2.FailureReason.ValueType = task_pb2.FAILURE_REASON_INTERNAL,
    *,
    message: str = "scripted failure",
    retryable: bool = False,
) -> Step:
    """End the task with a failure."""
    failure = task_pb2.Failure(reason=reason, message=message, retryable=retryable)
    return Fail(failure, final=True)


def fail_attempt(
    reason: task_pb2.FailureReason.ValueType = task_pb2.FAILURE_REASON_WORKER_LOST,
    *,
    message: str = "scripted failure",
) -> Step:
    """End the attempt with a failure; the next one starts at once with the steps that follow."""
    failure = task_pb2.Failure(reason=reason, message=message, retryable=True)
    failure.retry_delay.CopyFrom(to_duration(timedelta(0)))
    return Fail(failure, final=False)


def hold() -> Hold:
    """Keep the task RUNNING until it is released or cancelled."""
    return Hold(pending=False)


def hold_pending() -> Hold:
    """Keep the task PENDING until it is released or cancelled; the first step of a script."""
    return Hold(pending=True)
