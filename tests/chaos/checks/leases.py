"""Invariant 5: an attempt works under its lease alone, and only its own result counts."""

from collections.abc import Mapping
from itertools import pairwise

from tests.chaos.checks.report import Invariant, Report
from tests.chaos.checks.view import View
from tests.chaos.final_state import StoredFact, StoredTask
from tests.chaos.history import WorkStarted


def check_leases(view: View, report: Report) -> None:
    """Compare what attempts did with what the facts say of them."""
    for task_id, started in view.started.items():
        task = view.tasks.get(task_id)
        sentence = f"attempt {started[0].attempt} works at a task that is not there"
        report.expect(Invariant.FENCED, task_id, task, sentence)
        if task is not None:
            _check_works(view, task, started, report)
    for task in view.final.tasks:
        _check_result(view, task, report)


def _check_works(view: View, task: StoredTask, started: list[WorkStarted], report: Report) -> None:
    leased = {fact.attempt: fact for fact in task.facts if fact.fact == "attempt_started"}
    for work in started:
        fact = leased.get(work.attempt)
        sentence = f"attempt {work.attempt} worked in {work.process} and was never started"
        report.expect(Invariant.FENCED, task.task_id, fact, sentence)
        if fact is not None:
            sentence = f"attempt {work.attempt} is of {fact.worker}, and {work.worker} worked"
            same = fact.worker in ("", work.worker)
            report.expect(Invariant.FENCED, task.task_id, same, sentence)
    attempts = [work.attempt for work in started]
    sentence = f"one attempt worked more than once: {sorted(attempts)}"
    report.expect(Invariant.FENCED, task.task_id, len(attempts) == len(set(attempts)), sentence)
    _check_overlaps(view, task, started, report)


def _check_overlaps(
    view: View, task: StoredTask, started: list[WorkStarted], report: Report
) -> None:
    """Only an attempt that was given up as lost may go on beside the next one: a zombie."""
    outcomes = _outcomes(task)
    ordered = sorted(started, key=lambda work: work.attempt)
    for before, after in pairwise(ordered):
        end = view.ended.get((task.task_id, before.attempt, before.pid))
        fact = outcomes.get(before.attempt)
        is_lost = fact is not None and fact.reason in ("WORKER_LOST", "POISON")
        sentence = (
            f"attempt {after.attempt} began at {after.at:.3f}, while attempt {before.attempt}, "
            f"which was not lost, worked from {before.at:.3f} to {end.at if end else 0:.3f}"
        )
        apart = before.at <= after.at and (end is None or end.at <= after.at)
        report.expect(Invariant.FENCED, task.task_id, apart or is_lost, sentence)


def _outcomes(task: StoredTask) -> Mapping[int, StoredFact]:
    """Return the fact that ended each attempt."""
    ends = ("attempt_failed", "attempt_returned", "task_failed", "task_succeeded")
    return {fact.attempt: fact for fact in task.facts if fact.fact in ends}


def _check_result(view: View, task: StoredTask, report: Report) -> None:
    """An output is that of work which was seen, and which returned one."""
    for fact in task.facts:
        if fact.fact != "task_succeeded" or fact.reused_from:
            continue
        works = [w for w in view.started.get(task.task_id, ()) if w.attempt == fact.attempt]
        sentence = f"attempt {fact.attempt} succeeded, and nobody saw it work"
        report.expect(Invariant.FENCED, task.task_id, works, sentence)
        ends = [view.ended.get((task.task_id, work.attempt, work.pid)) for work in works]
        for end in ends:
            if end is not None:
                sentence = f"attempt {fact.attempt} succeeded, and its work {end.outcome}"
                returned = end.outcome == "returned"
                report.expect(Invariant.FENCED, task.task_id, returned, sentence)
