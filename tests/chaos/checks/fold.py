"""What facts make of a task: a small fold of our own, that names what no rule allows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.checks.report import Invariant
from tests.chaos.checks.view import FINAL_FACTS
from tests.chaos.final_state import StoredFact

#: Facts that a worker writes of its attempt.
_OF_ATTEMPT: Final = frozenset(
    {
        "attempt_failed",
        "attempt_returned",
        "context_retrieved",
        "checkpoint_saved",
        "task_succeeded",
        "task_failed",
    }
)
_KNOWN: Final = _OF_ATTEMPT | {
    "task_submitted",
    "attempt_started",
    "cancel_requested",
    "task_cancelled",
    "media_registered",
}


@dataclass
class Folded:
    """A task after some of its facts, and what of them no rule allows."""

    state: str = ""
    attempt: int = 0
    failures: int = 0
    cancel_requested: bool = False
    sequence: int = 0
    wrong: list[tuple[Invariant, str]] = field(default_factory=list[tuple[Invariant, str]])

    def _object(self, invariant: Invariant, fact: StoredFact, why: str) -> None:
        self.wrong.append((invariant, f"fact {fact.sequence}, {fact.fact}, {why}"))

    def add(self, fact: StoredFact) -> None:
        """Fold one more fact."""
        self.sequence += 1
        if fact.fact not in _KNOWN:
            self._object(Invariant.FOLDS, fact, "is of no known kind")
        if (self.sequence == 1) != (fact.fact == "task_submitted"):
            self._object(Invariant.FOLDS, fact, "stands where no such fact may stand")
        if self.state in FINAL_FACTS.values():
            self._add_note(fact)
            return
        if fact.fact == "media_registered":
            self._object(Invariant.ONE_END, fact, "is noted before the end")
        self._check_attempt(fact)
        self._check_cancel(fact)
        self._step(fact)

    def _add_note(self, fact: StoredFact) -> None:
        if fact.fact != "media_registered":
            self._object(Invariant.ONE_END, fact, f"stands after the end as {self.state}")
        elif self.state != "SUCCEEDED":
            self._object(Invariant.ONE_END, fact, f"is noted of a task that is {self.state}")

    def _check_attempt(self, fact: StoredFact) -> None:
        if fact.fact == "attempt_started":
            if self.state == "RUNNING":
                why = f"starts while attempt {self.attempt} has its lease"
                self._object(Invariant.FENCED, fact, why)
            if fact.attempt != self.attempt + 1:
                why = f"is of attempt {fact.attempt} behind {self.attempt}"
                self._object(Invariant.FENCED, fact, why)
        elif fact.fact in _OF_ATTEMPT and not self._is_right(fact):
            why = f"is of attempt {fact.attempt}; in force is {self._in_force()}"
            self._object(Invariant.FENCED, fact, why)

    def _is_right(self, fact: StoredFact) -> bool:
        """Whether it is of the attempt in force, or ends a waiting task: by reuse, or expired."""
        if self.state == "RUNNING":
            return fact.attempt == self.attempt
        if self.state != "PENDING" or fact.attempt not in (0, self.attempt):
            return False
        return bool(fact.reused_from) or (
            fact.fact == "task_failed" and fact.reason in ("EXPIRED", "DEPENDENCY_FAILED")
        )

    def _in_force(self) -> str:
        return f"attempt {self.attempt}" if self.state == "RUNNING" else "none"

    def _check_cancel(self, fact: StoredFact) -> None:
        if fact.fact == "task_cancelled":
            if self.state == "RUNNING" and not self.cancel_requested:
                self._object(Invariant.ONE_END, fact, "ends running work that nobody asked to stop")
        elif self.cancel_requested and fact.fact != "context_retrieved":
            self._object(Invariant.STOPPED, fact, "follows a request to stop")
        elif fact.fact == "cancel_requested" and self.state != "RUNNING":
            self._object(Invariant.FOLDS, fact, f"is asked of a task that is {self.state}")

    def _step(self, fact: StoredFact) -> None:
        match fact.fact:
            case "task_submitted" | "attempt_returned":
                self.state = "PENDING"
            case "attempt_started":
                self.state, self.attempt = "RUNNING", fact.attempt
            case "attempt_failed":
                self.state, self.failures = "PENDING", self.failures + 1
            case "cancel_requested":
                self.cancel_requested = True
            case "task_cancelled":
                self.state, self.cancel_requested = "CANCELLED", True
            case _:
                self.state = FINAL_FACTS.get(fact.fact, self.state)


def fold(facts: Iterable[StoredFact]) -> Folded:
    """Return what the facts, oldest first, make of a task."""
    folded = Folded()
    for fact in facts:
        folded.add(fact)
    return folded
