"""A run's records, found by what they are about."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Final, TypeVar

from tests.chaos.final_state import FinalState, StoredTask
from tests.chaos.history import (
    CallAnswered,
    CallBegun,
    CallRefused,
    CallUnknown,
    ProcessStarted,
    Record,
    WebhookReceived,
    WorkEnded,
    WorkStarted,
)

#: The facts that end a task, and the state that each one leaves.
FINAL_FACTS: Final = {
    "task_succeeded": "SUCCEEDED",
    "task_failed": "FAILED",
    "task_cancelled": "CANCELLED",
}

_R = TypeVar("_R", bound=Record)
Outcome = CallAnswered | CallRefused | CallUnknown


class View:
    """Everything that was seen and left, by task, by call and by kind."""

    def __init__(self, records: Iterable[Record], final: FinalState) -> None:
        self.final = final
        self._by_kind: defaultdict[type, list[Record]] = defaultdict(list)
        for record in sorted(records, key=lambda record: record.at):
            self._by_kind[type(record)].append(record)
        self.tasks = {task.task_id: task for task in final.tasks}

    def of(self, kind: type[_R]) -> list[_R]:
        """Return the records of one kind, oldest first."""
        return [each for each in self._by_kind[kind] if isinstance(each, kind)]

    @cached_property
    def calls(self) -> list[tuple[CallBegun, Outcome | None]]:
        """Every call with what became of it; None: its observer did not live to tell."""
        outcomes: dict[str, Outcome] = {}
        for kind in (CallAnswered, CallRefused, CallUnknown):
            outcomes |= {each.call: each for each in self.of(kind)}
        return [(call, outcomes.get(call.call)) for call in self.of(CallBegun)]

    @cached_property
    def started(self) -> dict[str, list[WorkStarted]]:
        """The starts of work by task."""
        return _by_task(self.of(WorkStarted))

    @cached_property
    def ended(self) -> dict[tuple[str, int, int], WorkEnded]:
        """The ends of work by task, attempt and process id."""
        return {(each.task_id, each.attempt, each.pid): each for each in self.of(WorkEnded)}

    @cached_property
    def webhooks(self) -> dict[str, list[WebhookReceived]]:
        """The webhooks that came, by task."""
        found: defaultdict[str, list[WebhookReceived]] = defaultdict(list)
        for each in self.of(WebhookReceived):
            found[each.task_id].append(each)
        return dict(found)

    @cached_property
    def processes(self) -> dict[str, str]:
        """The names of the processes of workers, by the id of the worker."""
        known = {each.worker: each.process for each in self.of(WorkStarted)}
        return known | {each.worker: each.process for each in self.of(ProcessStarted)}

    @cached_property
    def intents(self) -> dict[str, str]:
        """What a task's work does if no fault hits it, by the task's id."""
        # A request_id that is used again for another spec makes no task, and says nothing of one.
        by_submission = {
            (call.project, call.request_id, call.spec_digest): call.intent
            for call in self.of(CallBegun)
            if call.rpc == "submit"
        }
        return {
            task.task_id: by_submission.get(
                (task.project, task.request_id, task.spec_digest), "any"
            )
            for task in self.final.tasks
        }


def _by_task(started: Iterable[WorkStarted]) -> dict[str, list[WorkStarted]]:
    found: defaultdict[str, list[WorkStarted]] = defaultdict(list)
    for each in started:
        found[each.task_id].append(each)
    return dict(found)


def state_of(task: StoredTask) -> str:
    """Return the state that the last fact of a task leaves it in, if it ended it; else nothing."""
    ends = [FINAL_FACTS[fact.fact] for fact in task.facts if fact.fact in FINAL_FACTS]
    return ends[-1] if ends else ""
