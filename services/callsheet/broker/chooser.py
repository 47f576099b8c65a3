"""Chooses for a device what is next of the tasks that are ready, by reading them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.message import Message

from callsheet.broker.choice import Waiting, company, overtaken, preferred
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.store import Candidate
from callsheet.runtime.batch_keys import Company, company_of
from callsheet.runtime.models import Catalogue
from callsheet.v1.task_spec_pb2 import TaskSpec

#: How many ready tasks of a queue are looked at; more, up to the most, while none may be taken.
LOOKED_AT: Final = 64
MOST_LOOKED_AT: Final = 1024
#: Of how many tasks it is remembered what they ask for, and since when they are overtaken.
_REMEMBERED: Final = 4096


@dataclass(frozen=True)
class ChoiceRules:
    """By which a device's next tasks are chosen."""

    catalogue: Catalogue
    """The models that inputs name."""
    bucket: int
    """How many tasks run together at the most; 1: none do."""
    patience: timedelta
    """For how long a task may be overtaken."""


class Chooser:
    """Chooses for one device; *warm* tells which models need no loading there."""

    def __init__(
        self,
        attempts: Attempts,
        rules: ChoiceRules,
        *,
        warm: Callable[[], Collection[str]],
        leaves: Callable[[Task], Awaitable[bool]] | None = None,
    ) -> None:
        """Tasks that it *leaves* to other workers are not taken at all."""
        self._attempts = attempts
        self._rules = rules
        self._warm = warm
        self._leaves = leaves
        self._companies: OrderedDict[str, Company] = OrderedDict()
        self._overtaken: OrderedDict[str, float] = OrderedDict()
        self._waiting: Sequence[Waiting] = ()
        #: How many ready tasks of a queue are to be looked at next.
        self.window = LOOKED_AT
        #: How many tasks were overtaken so far.
        self.overtaken_count = 0

    async def order(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates that may be taken, the best first; none: leave them all.

        They come the most urgent first, queue by queue. Those of which there is nothing any more
        stand before the others: a claim removes them. Raises LedgerUnavailable.
        """
        looked = await self._attempts.look([each.task_id for each in candidates])
        now = asyncio.get_running_loop().time()
        gone = tuple(each for each in candidates if looked.get(each.task_id, each) is None)
        waiting: list[Waiting] = []
        for candidate in candidates:
            task = looked.get(candidate.task_id)
            if task is None or task.state is not TaskState.PENDING:
                continue  # others were faster
            if not await self._is_left(task):
                waiting.append(self._as_waiting(candidate, task, now=now))
        self._waiting = waiting
        self.window = LOOKED_AT if waiting else min(2 * self.window, MOST_LOOKED_AT)
        if not waiting:
            return gone
        rules = self._rules
        best = preferred(waiting, warm=self._warm(), patience=rules.patience)
        return (*gone, *map(_candidate, best))

    def company(self, task: Task) -> tuple[Candidate, ...]:
        """Return who may run together with a task of those that were put in order last."""
        first = next((each for each in self._waiting if each.task_id == task.id), None)
        # What failed once may have failed of its company.
        if first is None or task.attempt > 1:
            return ()
        rules = self._rules
        joining = company(first, self._waiting, bucket=rules.bucket, patience=rules.patience)
        return tuple(map(_candidate, joining))

    def note_taken(self, tasks: Iterable[Task]) -> None:
        """Take note of what was claimed: whoever stood before one of them was overtaken."""
        ids = {task.id for task in tasks}
        now = asyncio.get_running_loop().time()
        for task_id in ids:
            self._overtaken.pop(task_id, None)
        taken = [each for each in self._waiting if each.task_id in ids]
        for each in overtaken(taken, self._waiting):
            self._note_overtaken(each.task_id, now=now)

    async def _is_left(self, task: Task) -> bool:
        return self._leaves is not None and await self._leaves(task)

    def _as_waiting(self, candidate: Candidate, task: Task, *, now: float) -> Waiting:
        asked = self._company(task)
        since = self._overtaken.get(task.id)
        return Waiting(
            task.id,
            candidate.queue,
            task.submission.priority,
            asked.model,
            "" if task.attempt else asked.batch_key,
            None if since is None else timedelta(seconds=now - since),
        )

    def _company(self, task: Task) -> Company:
        if (known := self._companies.get(task.id)) is not None:
            return known
        asked = self._companies[task.id] = self._asked(task)
        if len(self._companies) > _REMEMBERED:
            self._companies.popitem(last=False)
        return asked

    def _asked(self, task: Task) -> Company:
        task_type = task.submission.task_type
        if task_type not in TaskSpec.DESCRIPTOR.fields_by_name:
            return Company("", "")  # of a type that only newer workers know
        input_message: Message = getattr(TaskSpec.FromString(task.submission.spec), task_type)
        return company_of(input_message, self._rules.catalogue)

    def _note_overtaken(self, task_id: str, *, now: float) -> None:
        if task_id in self._overtaken:
            return
        self._overtaken[task_id] = now
        self.overtaken_count += 1
        if len(self._overtaken) > _REMEMBERED:
            self._overtaken.popitem(last=False)


def _candidate(waiting: Waiting) -> Candidate:
    return Candidate(waiting.queue, waiting.task_id)
