"""Batches of submissions: each request checked, and accepted or refused, on its own."""

import asyncio
from collections.abc import Sequence
from typing import Final

from callsheet.control.convert import OUTCOMES, to_command, write_accepted
from callsheet.control.digests import SpecDigests
from callsheet.control.errors import to_refusal
from callsheet.control.memory_check import MemoryCheck
from callsheet.control.validation import Validation
from callsheet.ledger.acceptance import Accepted, SubmitCommand
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.ledger import Ledger
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksResponse

#: Requests that are checked and committed together: one call of the commit script, and a moment
#: of work between two looks at what else waits.
CHUNK: Final = 128

#: What became of a chunk: an answer for each request, or the refusal that concerns them all.
Outcome = list[Accepted | LedgerError] | LedgerError


class Submissions:
    """Accepts batches, chunk by chunk, in order."""

    def __init__(
        self,
        ledger: Ledger,
        validation: Validation,
        digests: SpecDigests,
        memory_check: MemoryCheck,
    ) -> None:
        self._ledger = ledger
        self._validation = validation
        self._digests = digests
        self._memory_check = memory_check

    async def command(
        self, request: SubmitTaskRequest, principal: Principal, *, trace_parent: str
    ) -> SubmitCommand:
        """Return the wish that a request expresses; raises as Validation.check_submission does."""
        self._validation.check_submission(request, principal)
        return to_command(
            request,
            trace_parent=trace_parent,
            reuse=self._digests.wish(request),
            unfit=await self._memory_check.refusal(request),
        )

    async def accept(
        self, principal: Principal, requests: Sequence[SubmitTaskRequest], *, trace_parent: str
    ) -> SubmitTasksResponse:
        """Return what became of each request, in order.

        What concerns all requests (a missing role, a ledger that is full or away) is raised; when
        others were accepted all the same, it is the answer of those that were not.
        """
        outcomes: list[asyncio.Task[Outcome]] = []
        async with asyncio.TaskGroup() as group:
            for start in range(0, len(requests), CHUNK):
                checked = [
                    await self._checked(request, principal, trace_parent)
                    for request in requests[start : start + CHUNK]
                ]
                outcomes.append(group.create_task(self._accept(principal, checked)))
                # It is on its way to the ledger before the next chunk is looked at; two at a time.
                await asyncio.sleep(0)
                if len(outcomes) > 1 and isinstance(await outcomes[-2], LedgerError):
                    break
        return _response(_answers([outcome.result() for outcome in outcomes], len(requests)))

    async def _accept(
        self, principal: Principal, checked: Sequence[SubmitCommand | LedgerError]
    ) -> Outcome:
        commands = [item for item in checked if isinstance(item, SubmitCommand)]
        try:
            answers = iter(await self._ledger.accept_many(principal, commands))
        except LedgerError as refusal:
            return refusal
        return [next(answers) if isinstance(item, SubmitCommand) else item for item in checked]

    async def _checked(
        self, request: SubmitTaskRequest, principal: Principal, trace_parent: str
    ) -> SubmitCommand | LedgerError:
        try:
            return await self.command(request, principal, trace_parent=trace_parent)
        except LedgerError as refusal:
            return refusal


def _answers(outcomes: Sequence[Outcome], count: int) -> list[Accepted | LedgerError]:
    """Return the chunks' answers as one; a refused chunk's refusal is that of each request."""
    refusals = [outcome for outcome in outcomes if isinstance(outcome, LedgerError)]
    if len(refusals) == len(outcomes):
        raise refusals[0]
    answers: list[Accepted | LedgerError] = []
    for outcome in outcomes:
        if isinstance(outcome, LedgerError):
            answers += [outcome] * min(CHUNK, count - len(answers))
        else:
            answers += outcome
    return answers + ([refusals[0]] * (count - len(answers)) if refusals else [])


def _response(answers: Sequence[Accepted | LedgerError]) -> SubmitTasksResponse:
    # Written in place: a message that is given to another one is copied.
    response = SubmitTasksResponse()
    for answer in answers:
        result = response.results.add()
        if isinstance(answer, LedgerError):
            result.refusal.CopyFrom(to_refusal(answer))
        else:
            write_accepted(result.task, answer.task)
            result.outcome = OUTCOMES[answer.outcome]
    return response
