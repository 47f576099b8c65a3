"""Invariants 11 and 12: projects see nothing of each other, and work flows after a healing."""

from typing import Final

from tests.chaos.checks.report import RUN, VACUOUS, Invariant, Limits, Report
from tests.chaos.checks.view import View
from tests.chaos.history import Flow, ForeignProbe, Healed, ListedTask

#: A run of so many tasks, of which some are asked for by strangers, that chance excuses no more.
_PROBED: Final = 500


def check_projects(view: View, report: Report) -> None:
    """Check every question for what is another project's, and every list."""
    probes = view.of(ForeignProbe)
    if not probes and len(view.tasks) >= _PROBED:
        # Of all that this invariant is seen by, this alone nobody does unless they are told to.
        sentence = "nobody asked for another project's task"
        report.expect(Invariant.APART, VACUOUS, False, sentence)
    for probe in probes:
        sentence = f"{probe.project} asked {probe.rpc} for {probe.task_id}: {probe.code}"
        report.expect(Invariant.APART, probe.task_id, probe.code == "NOT_FOUND", sentence)
    for listed in view.of(ListedTask):
        task = view.tasks.get(listed.task_id)
        owner = "nobody" if task is None else task.project
        sentence = f"{listed.project} was shown {listed.task_id}, which is of {owner}"
        report.expect(Invariant.APART, listed.task_id, owner == listed.project, sentence)


def check_flow(view: View, limits: Limits, report: Report) -> None:
    """Check that each healing was followed by a finished task in time, and by that alone."""
    flows = view.of(Flow)
    for healed in view.of(Healed):
        first = next((flow.at - healed.at for flow in flows if flow.at >= healed.at), None)
        after = "never" if first is None else f"{first:.1f} s later"
        sentence = f"work flowed again {after}; {limits.heal:.0f} s are allowed"
        in_time = first is not None and first <= limits.heal
        report.expect(Invariant.FLOWS, RUN, in_time, sentence)
    for flow in flows:
        done = flow.task_id in view.tasks
        report.expect(Invariant.FLOWS, flow.task_id, done, "the task that flowed is not there")
