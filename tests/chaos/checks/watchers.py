"""Invariant 3, and 11 for watchers: every fact in order over all reconnects, or told loudly."""

from collections import defaultdict
from collections.abc import Mapping

from tests.chaos.checks.report import RUN, Invariant, Report
from tests.chaos.checks.view import FINAL_FACTS, View
from tests.chaos.final_state import StoredFact
from tests.chaos.history import WatchEnded, WatchFact, WatchOpened, WatchTold

_Step = WatchOpened | WatchFact | WatchTold | WatchEnded


def check_watchers(view: View, report: Report) -> None:
    """Check each watch as one story, over all of its streams."""
    steps: list[_Step] = [
        *view.of(WatchOpened),
        *view.of(WatchFact),
        *view.of(WatchTold),
        *view.of(WatchEnded),
    ]
    watches: defaultdict[str, list[_Step]] = defaultdict(list)
    for step in sorted(steps, key=lambda step: step.at):
        watches[step.watch].append(step)
    stored = {
        (task.task_id, fact.sequence): fact for task in view.final.tasks for fact in task.facts
    }
    for watch, story in watches.items():
        _check_watch(view, watch, story, report)
        for step in story:
            if isinstance(step, WatchFact):
                _check_fact(watch, step, stored, report)
    _check_epochs(view, report)


def _check_watch(view: View, watch: str, story: list[_Step], report: Report) -> None:
    seen, last, over = 0, "", False
    for step in story:
        match step:
            case WatchOpened(after=after):
                _check_project(view, step, report)
                sentence = f"it went on behind fact {after}, and had seen {seen}"
                report.expect(Invariant.IN_ORDER, watch, seen in (0, after), sentence)
                seen = after
            case WatchFact(sequence=sequence):
                sentence = f"fact {sequence} came behind fact {seen}"
                report.expect(Invariant.IN_ORDER, watch, sequence == seen + 1, sentence)
                seen, last = sequence, step.fact
            case WatchTold(reason=reason):
                # That the client found the gap is no excuse: the server left a fact out.
                sentence = f"it was told loudly, of what no server may do: {reason}"
                report.expect(Invariant.IN_ORDER, watch, reason != "SEQUENCE_GAP", sentence)
                over = True
            case WatchEnded(outcome="final"):
                sentence = f"it was ended behind fact {seen}, {last}, as if that were the last"
                ended = last in FINAL_FACTS or _had_ended(view, story, seen)
                report.expect(Invariant.IN_ORDER, watch, ended, sentence)
                over = True
            case WatchEnded():
                over = True
    sentence = f"it waits still, behind fact {seen}, and was told nothing"
    report.expect(Invariant.IN_ORDER, watch, over, sentence)


def _had_ended(view: View, story: list[_Step], seen: int) -> bool:
    """Whether the watch had seen the final fact before: it was opened again behind it."""
    opened = next((step for step in story if isinstance(step, WatchOpened)), None)
    task = None if opened is None else view.tasks.get(opened.task_id)
    return task is not None and any(
        fact.fact in FINAL_FACTS and fact.sequence <= seen for fact in task.facts
    )


def _check_project(view: View, opened: WatchOpened, report: Report) -> None:
    task = view.tasks.get(opened.task_id)
    if task is not None:
        sentence = f"{opened.project} watches {opened.task_id}, which is of {task.project}"
        report.expect(Invariant.APART, opened.watch, task.project == opened.project, sentence)


def _check_fact(
    watch: str, told: WatchFact, stored: Mapping[tuple[str, int], StoredFact], report: Report
) -> None:
    fact = stored.get((told.task_id, told.sequence))
    same = fact is not None and (fact.fact, fact.digest) == (told.fact, told.digest)
    kept = "nothing" if fact is None else f"{fact.fact} {fact.digest}"
    sentence = f"{told.task_id}: it saw {told.sequence} {told.fact} {told.digest}; stored is {kept}"
    report.expect(Invariant.IN_ORDER, watch, same, sentence)


def _check_epochs(view: View, report: Report) -> None:
    """The ledger was never restored, so that nobody may have heard of another epoch."""
    epochs = {told.epoch for told in view.of(WatchFact)} | {view.final.epoch}
    sentence = f"the epoch changed although nothing was lost: {sorted(epochs)}"
    report.expect(Invariant.IN_ORDER, RUN, len(epochs) == 1, sentence)
