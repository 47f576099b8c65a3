"""Invariant 6: failures are bounded, and each one has a cause of its own task or its own worker."""

from math import inf
from typing import Final

from tests.chaos.checks.faults import Scene, spells
from tests.chaos.checks.report import Invariant, Limits, Report
from tests.chaos.checks.view import View
from tests.chaos.final_state import StoredFact, StoredTask

#: Reasons after which there are further attempts as long as the limit allows.
_TRIED_TO_THE_LIMIT: Final = frozenset(
    {"WORKER_LOST", "POISON", "INTERNAL", "UNAVAILABLE", "RATE_LIMITED", "ARTIFACT_STORE"}
)


def check_attempts(view: View, limits: Limits, report: Report) -> None:
    """Check every failure of every task."""
    scene = Scene(view, spells(view), limits, report)
    for task in view.final.tasks:
        _check_limit(task, report)
        intent = view.intents.get(task.task_id, "any")
        for fact in task.facts:
            if fact.fact not in ("attempt_failed", "task_failed"):
                continue
            if fact.reason in ("WORKER_LOST", "POISON") and intent != "poison":
                _check_loss(scene, task, fact)
            elif intent == "succeed":
                _check_innocent(scene, task, fact)


def _check_limit(task: StoredTask, report: Report) -> None:
    failed = sum(fact.fact == "attempt_failed" for fact in task.facts)
    starts = sum(fact.fact == "attempt_started" for fact in task.facts)
    returns = sum(fact.fact == "attempt_returned" for fact in task.facts)
    ended = next((fact for fact in task.facts if fact.fact == "task_failed"), None)
    if task.max_attempts:
        sentence = (
            f"{failed} attempts failed and were followed by another; {task.max_attempts} may fail"
        )
        report.expect(Invariant.BOUNDED, task.task_id, failed < task.max_attempts, sentence)
        sentence = (
            f"{starts} attempts were started; {returns} were handed back, and {failed} failed"
        )
        report.expect(Invariant.BOUNDED, task.task_id, starts <= failed + returns + 1, sentence)
    if ended is not None and ended.reason in _TRIED_TO_THE_LIMIT and task.max_attempts:
        sentence = f"it failed as {ended.reason} after {failed + 1} of {task.max_attempts} attempts"
        report.expect(Invariant.BOUNDED, task.task_id, failed + 1 == task.max_attempts, sentence)


def _check_loss(scene: Scene, task: StoredTask, fact: StoredFact) -> None:
    """A lost attempt needs something that befell its worker: an outage of Redis is none."""
    process = _process(scene.view, task, fact.attempt)
    if not process:
        return
    begin, end = _span(scene.view, task, fact.attempt)
    causes = [
        spell
        for spell in scene.faults
        if spell.touches(process)
        and spell.overlaps(begin - scene.limits.slack, end)
        and (not spell.is_link or spell.end - spell.begin >= scene.limits.lease / 3)
    ]
    sentence = f"attempt {fact.attempt} was lost in {process}, which nothing befell"
    scene.report.expect(Invariant.BOUNDED, task.task_id, causes, sentence)


def _check_innocent(scene: Scene, task: StoredTask, fact: StoredFact) -> None:
    """Work that fails by itself never does so; what it leans on may have failed."""
    process = _process(scene.view, task, fact.attempt)
    begin, end = _span(scene.view, task, fact.attempt)
    causes = [
        spell
        for spell in scene.faults
        if spell.overlaps(begin, end)
        and (spell.is_shared or "disk" in spell.kind or (process and spell.touches(process)))
    ]
    sentence = f"it should succeed, and attempt {fact.attempt} failed as {fact.reason}"
    scene.report.expect(Invariant.BOUNDED, task.task_id, causes, sentence)


def _process(view: View, task: StoredTask, attempt: int) -> str:
    for work in view.started.get(task.task_id, ()):
        if work.attempt == attempt:
            return work.process
    started = (f for f in task.facts if f.fact == "attempt_started" and f.attempt == attempt)
    worker = next((fact.worker for fact in started), "")
    return view.processes.get(worker, "")


def _span(view: View, task: StoredTask, attempt: int) -> tuple[float, float]:
    """Return from when to when an attempt may have run, as far as its work and others' tell."""
    works = view.started.get(task.task_id, ())
    begin = min((work.at for work in works if work.attempt == attempt), default=-inf)
    end = min((work.at for work in works if work.attempt > attempt), default=inf)
    return begin, end
