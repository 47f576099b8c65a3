"""Any run that goes right passes; any one thing that goes wrong in it is caught."""

from collections.abc import Callable, Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.chaos.checker import check
from tests.chaos.checker_runs import Facts, Run, renumbered, with_records, with_task
from tests.chaos.checker_story import Story
from tests.chaos.checks.report import Invariant
from tests.chaos.checks.view import FINAL_FACTS
from tests.chaos.history import CallAnswered, WatchFact, WebhookReceived

#: How one attempt of a task may end without ending the task, and how the task may end.
ATTEMPTS: Final = st.lists(st.sampled_from(["lose", "hand_back", "fail"]), max_size=4)
ENDS: Final = st.sampled_from(["succeed", "cancel", "cancel_waiting"])
RECEIVERS: Final = st.sampled_from(["honest", "sour"])
LIVES: Final = st.lists(st.tuples(ATTEMPTS, ENDS, RECEIVERS), min_size=1, max_size=4)
CHOICES: Final = st.integers(min_value=0, max_value=10_000)

Lives = Sequence[tuple[Sequence[str], str, str]]
Corruption = Callable[[Run, int], Run]


def told(lives: Lives) -> Run:
    """Return a run of such lives, in which everything is in order."""
    story = Story()
    for number, (attempts, end, receiver) in enumerate(lives):
        # A task of its own project beside each, so that there is something foreign.
        task_id = story.submit(f"{number}", receiver=receiver, lost_replies=number % 2, limit=9)
        for attempt, turn in enumerate(attempts):
            process = f"worker-{1 + attempt % 2}"
            story.start(task_id, process=process)
            if turn == "lose":
                story.lose(task_id, process)
            elif turn == "hand_back":
                story.hand_back(task_id)
            else:
                story.fail(task_id)
        if end != "cancel_waiting":
            story.start(task_id)
        story.succeed(task_id) if end == "succeed" else story.cancel(task_id)
        story.refuse_cancel(task_id)
        story.watch(task_id, broken_after=(2, 4))
    other = story.submit("other", project="beta")
    story.start(other)
    story.cancel(other)
    story.look_abroad("beta", "task-0")
    story.heal()
    return story.end()


def _with_stored(run: Run, choice: int, change: Callable[[Facts, int], Facts]) -> Run:
    tasks = run[1].tasks
    task = tasks[choice % len(tasks)]
    return with_task(run, task.task_id, facts=change(task.facts, choice % len(task.facts)))


def drop_stored(run: Run, choice: int) -> Run:
    """Lose a stored fact; the others move up."""
    return _with_stored(run, choice, lambda f, at: renumbered([*f[:at], *f[at + 1 :]]))


def double_stored(run: Run, choice: int) -> Run:
    """Store a fact twice."""
    return _with_stored(run, choice, lambda f, at: renumbered([*f[: at + 1], *f[at:]]))


def swap_stored(run: Run, choice: int) -> Run:
    """Store two facts, one after the other, in the wrong order."""

    def swap(facts: Facts, at: int) -> Facts:
        at = min(at, len(facts) - 2)
        return renumbered([*facts[:at], facts[at + 1], facts[at], *facts[at + 2 :]])

    return _with_stored(run, choice, swap)


def change_attempt(run: Run, choice: int) -> Run:
    """Let a fact of a worker be of another attempt."""
    tasks = [task for task in run[1].tasks if any(fact.attempt for fact in task.facts)]
    task = tasks[choice % len(tasks)]
    places = [place for place, fact in enumerate(task.facts) if fact.attempt]
    chosen = places[choice % len(places)]
    facts = [
        replace(fact, attempt=fact.attempt + 1) if place == chosen else fact
        for place, fact in enumerate(task.facts)
    ]
    return with_task(run, task.task_id, facts=facts)


def drop_watched(run: Run, choice: int) -> Run:
    """Let a watcher miss a fact."""
    watched = [each for each in run[0] if isinstance(each, WatchFact)]
    chosen = watched[choice % len(watched)]
    return [each for each in run[0] if each is not chosen], run[1]


def double_watched(run: Run, choice: int) -> Run:
    """Tell a watcher a fact twice."""
    watched = [each for each in run[0] if isinstance(each, WatchFact)]
    return with_records(run, watched[choice % len(watched)])


def change_webhook_id(run: Run, choice: int) -> Run:
    """Let a webhook go out under another fact's id."""
    webhooks = [each for each in run[0] if isinstance(each, WebhookReceived)]
    chosen = webhooks[choice % len(webhooks)]
    other = f"{chosen.webhook_id}0"
    records = [replace(each, webhook_id=other) if each is chosen else each for each in run[0]]
    return records, run[1]


def change_answer(run: Run, choice: int) -> Run:
    """Acknowledge a submission with an id that is nobody's."""
    answers = [each for each in run[0] if isinstance(each, CallAnswered)]
    chosen = answers[choice % len(answers)]
    calls = {"submit", "retry"}
    begun = next(each for each in run[0] if getattr(each, "call", "") == chosen.call)
    if getattr(begun, "rpc", "") not in calls:
        chosen = answers[0]  # the first answer of a run is that to a submission
    records = [replace(each, task_id="task-x") if each is chosen else each for each in run[0]]
    return records, run[1]


def lose_end_of_webhooks(run: Run, choice: int) -> Run:
    """Let the end of a task never arrive, though it is honestly waited for."""
    honest = {t.task_id for t in run[1].tasks if ":7001" in t.callback_url}
    ends = {(t.task_id, f.sequence) for t in run[1].tasks for f in t.facts if f.fact in FINAL_FACTS}
    wanted = sorted(end for end in ends if end[0] in honest)
    if not wanted:
        return change_answer(run, choice)
    chosen = wanted[choice % len(wanted)]
    records = [
        each
        for each in run[0]
        if not (isinstance(each, WebhookReceived) and (each.task_id, each.sequence) == chosen)
    ]
    return records, run[1]


CORRUPTIONS: Final[dict[Corruption, set[Invariant]]] = {
    drop_stored: {Invariant.IN_ORDER, Invariant.FOLDS},
    double_stored: {Invariant.IN_ORDER},
    swap_stored: {Invariant.FOLDS, Invariant.FENCED, Invariant.ONE_END, Invariant.IN_ORDER},
    change_attempt: {Invariant.FENCED},
    drop_watched: {Invariant.IN_ORDER},
    double_watched: {Invariant.IN_ORDER},
    change_webhook_id: {Invariant.TOLD},
    change_answer: {Invariant.SUBMIT_KEPT},
    lose_end_of_webhooks: {Invariant.TOLD, Invariant.SUBMIT_KEPT},
}


@settings(max_examples=60, deadline=None)
@given(lives=LIVES)
def test_any_run_that_goes_right_passes(lives: Lives) -> None:
    report = check(*told(lives))
    assert report.violations == []
    assert all(count for name, count in report.counts().items() if "webhook" not in name)


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda each: each.__name__)
@settings(max_examples=25, deadline=None)
@given(lives=LIVES, choice=CHOICES)
def test_whatever_goes_wrong_once_is_caught(corrupt: Corruption, lives: Lives, choice: int) -> None:
    report = check(*corrupt(told(lives), choice))
    assert report.broken() & CORRUPTIONS[corrupt], report.violations
