"""Batches of submissions: each request checked, and accepted or refused, on its own."""

from collections.abc import Sequence
from typing import Final

from callsheet.control.convert import accepted_to_proto, to_command
from callsheet.control.errors import to_refusal
from callsheet.control.validation import Validation
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.ledger import Ledger, SubmitCommand
from callsheet.ledger.model import Task
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksResult

#: Requests that are checked and committed together: one call of the commit script, and a moment
#: of work between two looks at what else waits.
CHUNK: Final = 128


class Submissions:
    """Accepts batches, chunk by chunk, in order."""

    def __init__(self, ledger: Ledger, validation: Validation) -> None:
        self._ledger = ledger
        self._validation = validation

    async def accept(
        self, principal: Principal, requests: Sequence[SubmitTaskRequest], *, trace_parent: str
    ) -> list[SubmitTasksResult]:
        """Return what became of each request, in order.

        What concerns all requests (a missing role, a ledger that is full or away) is raised when
        it comes first; when some were accepted before, it is the answer of all that were not.
        """
        results: list[SubmitTasksResult] = []
        while len(results) < len(requests):
            chunk = requests[len(results) : len(results) + CHUNK]
            try:
                results += await self._accept(principal, chunk, trace_parent)
            except LedgerError as refusal:
                if not results:
                    raise
                refused = SubmitTasksResult(refusal=to_refusal(refusal))
                results += [refused] * (len(requests) - len(results))
        return results

    async def _accept(
        self, principal: Principal, requests: Sequence[SubmitTaskRequest], trace_parent: str
    ) -> list[SubmitTasksResult]:
        checked = [self._command(request, trace_parent) for request in requests]
        commands = [item for item in checked if isinstance(item, SubmitCommand)]
        answers = iter(await self._ledger.submit_many(principal, commands))
        return [
            _result(next(answers) if isinstance(item, SubmitCommand) else item) for item in checked
        ]

    def _command(
        self, request: SubmitTaskRequest, trace_parent: str
    ) -> SubmitCommand | LedgerError:
        try:
            self._validation.check_submission(request)
        except LedgerError as refusal:
            return refusal
        return to_command(request, trace_parent=trace_parent)


def _result(answer: Task | LedgerError) -> SubmitTasksResult:
    if isinstance(answer, LedgerError):
        return SubmitTasksResult(refusal=to_refusal(answer))
    return SubmitTasksResult(task=accepted_to_proto(answer))
