"""What a check found: how often each invariant was looked at, and where it did not hold."""

from collections import Counter
from enum import Enum
from typing import Final

from msgspec import Struct

#: What a violation is about when it is about the run as a whole.
RUN: Final = "run"
#: The same when nothing was seen to be wrong, but too little was looked at to prove anything.
VACUOUS: Final = "vacuous"


class Invariant(Enum):
    """What must always hold, in the order of the design's list."""

    SUBMIT_KEPT = "1_acknowledged_submit_is_kept"
    ONE_END = "2_one_final_state"
    IN_ORDER = "3_facts_in_order"
    FOLDS = "4_facts_fold_to_task"
    FENCED = "5_lease_fences"
    BOUNDED = "6_failures_are_bounded"
    TOLD = "7_webhook_at_least_once"
    REMEMBERED = "8_brain_write_once"
    STOPPED = "9_cancel_stops_work"
    REFUSED = "10_refusal_changes_nothing"
    APART = "11_projects_are_apart"
    FLOWS = "12_work_flows_again"


class Violation(Struct, frozen=True):
    """One place where an invariant did not hold, in a sentence with its evidence."""

    invariant: str
    #: What it is about: the id of a task, a request or a watch; or RUN; or VACUOUS.
    about: str
    sentence: str


class Limits(Struct, frozen=True, kw_only=True):
    """What the run was set to, in seconds."""

    #: How long an attempt's lease lasts.
    lease: float = 15.0
    #: How long work that was asked to stop may go on.
    grace: float = 10.0
    #: What noticing and writing down may take beyond, on a busy machine.
    slack: float = 5.0
    #: How soon after a healing work must flow.
    heal: float = 30.0


class Report:
    """Counts what was checked, and collects violations."""

    def __init__(self) -> None:
        self.checked: Counter[Invariant] = Counter()
        self.violations: list[Violation] = []

    def expect(self, invariant: Invariant, about: str, holds: object, sentence: str) -> None:
        """Count one check of the invariant; if it does not hold, keep the sentence."""
        self.checked[invariant] += 1
        if not holds:
            self.violations.append(Violation(invariant.value, about, sentence))

    def require_all_checked(self) -> None:
        """Make each invariant that was checked nowhere a violation of the run."""
        for invariant in Invariant:
            if not self.checked[invariant]:
                sentence = "it was checked nowhere: the run proves nothing about it"
                self.violations.append(Violation(invariant.value, VACUOUS, sentence))

    def counts(self) -> dict[str, int]:
        """Return how often each invariant was checked, by its name and in order."""
        return {invariant.value: self.checked[invariant] for invariant in Invariant}

    def broken(self) -> set[Invariant]:
        """Return the invariants that did not hold somewhere."""
        return {Invariant(violation.invariant) for violation in self.violations}
