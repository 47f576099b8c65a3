"""Invariant 9: what was acknowledged as cancelled ends so, and its work stops in time."""

from collections.abc import Sequence

from tests.chaos.checks.faults import Scene, Spell, spells
from tests.chaos.checks.report import Invariant, Limits, Report
from tests.chaos.checks.view import View, state_of
from tests.chaos.history import CallAnswered, WorkStarted


def check_stops(view: View, limits: Limits, report: Report) -> None:
    """Check every cancellation that was answered OK."""
    scene = Scene(view, spells(view), limits, report)
    for call, answer in view.calls:
        if call.rpc != "cancel" or not isinstance(answer, CallAnswered):
            continue
        task = view.tasks.get(call.task_id)
        state = "unknown" if task is None else state_of(task)
        sentence = f"its cancellation was acknowledged, and it ended as {state or 'nothing'}"
        report.expect(Invariant.STOPPED, call.task_id, state == "CANCELLED", sentence)
        for work in view.started.get(call.task_id, ()):
            _check_work(scene, work, answer.at)


def _check_work(scene: Scene, work: WorkStarted, asked_at: float) -> None:
    """Work that was killed at the end of its grace period leaves no end: none is no violation."""
    begin_by = _later(asked_at, scene.limits.slack, work.process, scene.faults)
    sentence = f"attempt {work.attempt} began {work.at - asked_at:.1f} s after the acknowledgement"
    scene.report.expect(Invariant.STOPPED, work.task_id, work.at <= begin_by, sentence)
    end = scene.view.ended.get((work.task_id, work.attempt, work.pid))
    if end is not None and end.at > asked_at:
        end_by = _later(
            asked_at, scene.limits.grace + scene.limits.slack, work.process, scene.faults
        )
        late = end.at - asked_at
        sentence = f"attempt {work.attempt} worked {late:.1f} s beyond the acknowledgement"
        scene.report.expect(Invariant.STOPPED, work.task_id, end.at <= end_by, sentence)


def _later(begin: float, allowed: float, process: str, faults: Sequence[Spell]) -> float:
    """Return the latest time that is in order: faults in the way of the word stop the clock."""
    end = begin + allowed
    hits = (spell for spell in faults if spell.touches(process) or spell.is_shared)
    for spell in sorted(hits, key=lambda spell: spell.begin):
        if spell.overlaps(begin, end):
            end = max(end, spell.end + allowed)
    return end
