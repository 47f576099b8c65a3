"""Submitting many tasks in few calls, with an answer for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from callsheet.client.errors import CallError, Internal, from_refusal
from callsheet.client.retry import is_transient, retrying
from callsheet.v1 import task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from callsheet.client.connection import Connection


class Accepted(NamedTuple):
    """The task that answers a submission, and how it came to."""

    task: task_pb2.Task
    outcome: task_service_pb2.SubmitOutcome.ValueType


#: What became of one submission: the task that answers it, or why it was refused.
Answer: TypeAlias = Accepted | CallError

#: The most submissions of one call, as the contract says.
MOST_ITEMS: Final = 1000
# Well below gRPC's own limit of 4 MiB for a message.
_MOST_BYTES: Final = 3 * 1024 * 1024


class Batch:
    """The requests of one call of SubmitTasks, and the answers so far."""

    def __init__(self, requests: Sequence[task_service_pb2.SubmitTaskRequest]) -> None:
        self._requests = requests
        self._answers: dict[int, Answer] = {}
        self._waiting = list(range(len(requests)))

    async def submit(
        self, connection: Connection, *, timeout: timedelta, trace_parent: str
    ) -> list[Answer]:
        """Return one answer for each request, in order; refusals that may pass are tried again."""

        async def attempt(remaining: timedelta) -> None:
            response = await connection.once(
                connection.tasks.SubmitTasks,
                task_service_pb2.SubmitTasksRequest(
                    requests=[self._requests[index] for index in self._waiting]
                ),
                timeout=remaining,
                trace_parent=trace_parent,
            )
            self._take(response.results)

        try:
            await retrying(attempt, timeout=timeout, backoff=connection.new_backoff())
        except CallError as error:
            for index in self._waiting:
                self._answers.setdefault(index, error)
        return [self._answers[index] for index in range(len(self._requests))]

    def _take(self, results: Sequence[task_service_pb2.SubmitTasksResult]) -> None:
        if len(results) != len(self._waiting):
            raise Internal(f"{len(self._waiting)} submissions got {len(results)} answers")
        refusals: dict[int, CallError] = {}
        for index, result in zip(self._waiting, results, strict=True):
            answer = self._answers[index] = _answer(result)
            if isinstance(answer, CallError) and is_transient(answer):
                refusals[index] = answer
        self._waiting = list(refusals)
        for refusal in refusals.values():
            raise refusal  # the first speaks for all: they are tried again together


def batches(requests: Sequence[task_service_pb2.SubmitTaskRequest]) -> Iterator[Batch]:
    """Yield the requests, in order, in batches that the contract and the wire allow."""
    start, size = 0, 0
    for index, request in enumerate(requests):
        request_size = request.ByteSize()
        full = index - start == MOST_ITEMS or size + request_size > _MOST_BYTES
        if full and index > start:
            yield Batch(requests[start:index])
            start, size = index, 0
        size += request_size
    if start < len(requests):
        yield Batch(requests[start:])


def _answer(result: task_service_pb2.SubmitTasksResult) -> Answer:
    match result.WhichOneof("result"):
        case "task":
            return Accepted(result.task, result.outcome)
        case "refusal":
            return from_refusal(result.refusal)
        case None:
            return Internal("the server answered neither a task nor a refusal")
