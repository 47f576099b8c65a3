"""Invariants 2, 3 (what is stored), and 4: each task's facts, its one end, and its record."""

from collections import Counter

from tests.chaos.checks.fold import Folded, fold
from tests.chaos.checks.report import Invariant, Report
from tests.chaos.checks.view import FINAL_FACTS, View, state_of
from tests.chaos.final_state import StoredTask
from tests.chaos.history import CallAnswered


def check_lives(view: View, report: Report) -> None:
    """Check what each task's facts say by themselves, and against its record."""
    for task in view.final.tasks:
        _check_facts(task, report)
        folded = fold(task.facts)
        for invariant, sentence in folded.wrong:
            report.expect(invariant, task.task_id, False, sentence)
        _check_end(task, report)
        _check_record(task, folded, report)
    _check_answers(view, report)
    _check_indexes(view, report)


def _check_facts(task: StoredTask, report: Report) -> None:
    sequences = [fact.sequence for fact in task.facts]
    wanted = list(range(1, task.sequence + 1))
    sentence = f"the stored facts are {sequences}, and the last one should be {task.sequence}"
    report.expect(Invariant.IN_ORDER, task.task_id, sequences == wanted, sentence)
    # A write that is repeated after a lost reply is recognised by its id. Answering by reuse is
    # one write of two facts.
    counts = Counter(f.operation for f in task.facts if f.operation and not f.reused_from)
    twice = [operation for operation, count in counts.items() if count > 1]
    sentence = f"the same write stands more than once: {twice}"
    report.expect(Invariant.IN_ORDER, task.task_id, not twice, sentence)


def _check_end(task: StoredTask, report: Report) -> None:
    ends = [fact.fact for fact in task.facts if fact.fact in FINAL_FACTS]
    sentence = f"it has {len(ends)} final facts: {[fact.fact for fact in task.facts]}"
    report.expect(Invariant.ONE_END, task.task_id, len(ends) == 1, sentence)


def _check_record(task: StoredTask, folded: Folded, report: Report) -> None:
    """Compare fold and record: the claim script alone leaves the record one fact behind."""
    behind = task.sequence - task.record_sequence
    is_claim = behind == 1 and bool(task.facts) and task.facts[-1].fact == "attempt_started"
    sentence = f"its record is of fact {task.record_sequence}, its last fact is {task.sequence}"
    report.expect(Invariant.FOLDS, task.task_id, behind == 0 or is_claim, sentence)
    then = fold(task.facts[: task.record_sequence])
    stored = (
        task.record_state,
        task.record_attempt,
        task.record_failures,
        task.record_cancel_requested,
    )
    told = (then.state, then.attempt, then.failures, then.cancel_requested)
    sentence = f"its record has state, attempt, failures, cancel {stored}; its facts say {told}"
    report.expect(Invariant.FOLDS, task.task_id, stored == told, sentence)
    sentence = f"its attempt counter is {task.attempt}, its facts say {folded.attempt}"
    report.expect(Invariant.FOLDS, task.task_id, task.attempt == folded.attempt, sentence)
    if task.shown_state:
        shown = (task.shown_state, task.shown_sequence, task.shown_attempt)
        now = (folded.state, folded.sequence, folded.attempt)
        sentence = f"GetTask shows state, sequence, attempt {shown}; its facts say {now}"
        report.expect(Invariant.FOLDS, task.task_id, shown == now, sentence)


def _check_answers(view: View, report: Report) -> None:
    """A final state that a call's answer told is the one that the task has for ever."""
    for answer in view.of(CallAnswered):
        task = view.tasks.get(answer.task_id)
        if task is None or answer.state not in FINAL_FACTS.values():
            continue
        now = state_of(task)
        sentence = f"call {answer.call} was told {answer.state}; it ended as {now or 'nothing'}"
        report.expect(Invariant.ONE_END, answer.task_id, answer.state == now, sentence)


def _check_indexes(view: View, report: Report) -> None:
    """The queue is an index of the truth: what has ended stands in it no more."""
    places = {
        "the ready sets": view.final.ready,
        "the leases": view.final.leases,
        "the delayed tasks": view.final.delayed,
    }
    for place, members in places.items():
        for member in members:
            task_id = member.partition("/")[0]
            task = view.tasks.get(task_id)
            is_over = task is None or bool(state_of(task))
            sentence = f"{member} is left in {place}, and its task is over or unknown"
            report.expect(Invariant.ONE_END, task_id, not is_over, sentence)
