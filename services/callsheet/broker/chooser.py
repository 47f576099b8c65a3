"""Chooses for a device what is next of the tasks that are ready, by reading them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.message import Message

from callsheet.broker.choice import Waiting, choose
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.model import Task
from callsheet.ledger.store import Candidate
from callsheet.runtime.batch_keys import Company, company_of
from callsheet.runtime.models import Catalogue
from callsheet.v1.task_spec_pb2 import TaskSpec

#: How many ready tasks of a queue are looked at.
LOOKED_AT: Final = 64
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
        #: How many tasks were overtaken so far.
        self.overtaken_count = 0

    async def choose(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return which of the candidates to claim, to be run together; none: leave them all.

        They are the most urgent first, queue by queue. Raises LedgerUnavailable.
        """
        tasks = await self._attempts.look([each.task_id for each in candidates])
        now = asyncio.get_running_loop().time()
        waiting = [
            self._waiting(candidate, task, now=now)
            for candidate in candidates
            if (task := tasks.get(candidate.task_id)) is not None and not await self._is_left(task)
        ]
        if not waiting:
            return ()
        rules = self._rules
        choice = choose(waiting, warm=self._warm(), bucket=rules.bucket, patience=rules.patience)
        for each in choice.overtaken:
            self._note_overtaken(each.task_id, now=now)
        return tuple(Candidate(each.queue, each.task_id) for each in choice.taken)

    async def _is_left(self, task: Task) -> bool:
        return self._leaves is not None and await self._leaves(task)

    def _waiting(self, candidate: Candidate, task: Task, *, now: float) -> Waiting:
        company = self._company(task)
        since = self._overtaken.get(task.id)
        return Waiting(
            task.id,
            candidate.queue,
            task.submission.priority,
            company.model,
            # What failed once may have failed of its company.
            "" if task.attempt else company.batch_key,
            None if since is None else timedelta(seconds=now - since),
        )

    def _company(self, task: Task) -> Company:
        if (known := self._companies.get(task.id)) is not None:
            return known
        spec = TaskSpec.FromString(task.submission.spec)
        input_message: Message = getattr(spec, task.submission.task_type)
        company = self._companies[task.id] = company_of(input_message, self._rules.catalogue)
        if len(self._companies) > _REMEMBERED:
            self._companies.popitem(last=False)
        return company

    def _note_overtaken(self, task_id: str, *, now: float) -> None:
        if task_id in self._overtaken:
            return
        self._overtaken[task_id] = now
        self.overtaken_count += 1
        if len(self._overtaken) > _REMEMBERED:
            self._overtaken.popitem(last=False)
