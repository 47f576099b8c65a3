"""A good run for the tests of the checker, and the ways in which one can be spoilt."""

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from tests.chaos.checker_story import Story
from tests.chaos.checks.fold import fold
from tests.chaos.final_state import FinalState, StoredDelivery, StoredFact, StoredTask
from tests.chaos.history import Record

Run = tuple[list[Record], FinalState]
Facts = list[StoredFact]
_R = TypeVar("_R", bound=Record)


def good_run() -> Run:
    """Return a run in which every invariant is checked, and holds."""
    story = Story()
    plain = story.submit("plain", receiver="honest", lost_replies=1, repeated=1)
    story.start(plain)
    story.succeed(plain)
    story.register_media(plain)
    lost = story.submit("lost", receiver="sour")
    story.start(lost)
    story.lose(lost)
    story.start(lost, process="worker-2")
    story.hand_back(lost)
    story.start(lost)
    story.succeed(lost)
    broken = story.submit("broken", receiver="honest", limit=2)
    for _ in range(2):
        story.start(broken)
        story.fail(broken)
    stopped = story.submit("stopped", receiver="honest")
    story.start(stopped)
    story.cancel(stopped)
    waiting = story.submit("waiting", project="beta")
    story.cancel(waiting)
    again = story.retry(broken, name="again")
    story.start(again)
    story.succeed(again)
    story.refuse_submit("refused")
    story.refuse_cancel(plain)
    story.watch(lost, broken_after=(2, 3))
    story.watch(plain)
    story.look_abroad("beta", plain)
    story.heal()
    return story.end()


def changed(run: Run, kind: type[_R], *, nth: int = 0, **fields: object) -> Run:
    """Return the run with the nth record of a kind changed."""
    records, final = run
    target = [each for each in records if isinstance(each, kind)][nth]
    return [replace(each, **fields) if each is target else each for each in records], final


def without(run: Run, kind: type[_R], *, nth: int = 0) -> Run:
    """Return the run without the nth record of a kind."""
    records, final = run
    target = [each for each in records if isinstance(each, kind)][nth]
    return [each for each in records if each is not target], final


def with_records(run: Run, *more: Record) -> Run:
    """Return the run with more records."""
    records, final = run
    return [*records, *more], final


def with_task(run: Run, task_id: str, **fields: object) -> Run:
    """Return the run with other fields of a stored task."""
    records, final = run
    tasks = [replace(each, **fields) if each.task_id == task_id else each for each in final.tasks]
    return records, replace(final, tasks=tasks)


def with_facts(run: Run, task_id: str, change: Callable[[Facts], Facts]) -> Run:
    """Return the run with other facts of a stored task, whose record says what they say."""
    before = next(each for each in run[1].tasks if each.task_id == task_id)
    facts = change(before.facts)
    return with_task(run, task_id, **record_of(replace(before, facts=facts)))


def record_of(task: StoredTask) -> dict[str, object]:
    """Return the fields of a record that says what the task's facts say."""
    folded = fold(task.facts)
    return {
        "facts": task.facts,
        "sequence": folded.sequence,
        "attempt": folded.attempt,
        "record_sequence": folded.sequence,
        "record_state": folded.state,
        "record_attempt": folded.attempt,
        "record_failures": folded.failures,
        "record_cancel_requested": folded.cancel_requested,
        "shown_state": folded.state,
        "shown_sequence": folded.sequence,
        "shown_attempt": folded.attempt,
    }


def renumbered(facts: Facts) -> Facts:
    """Return the facts with the sequences 1, 2, 3 and so on."""
    return [replace(fact, sequence=place) for place, fact in enumerate(facts, start=1)]


def without_task(run: Run, task_id: str) -> Run:
    """Return the run with a task lost from the ledger."""
    records, final = run
    tasks = [each for each in final.tasks if each.task_id != task_id]
    return records, replace(final, tasks=tasks)


def left(run: Run, **fields: object) -> Run:
    """Return the run with something else left at its end."""
    return run[0], replace(run[1], **fields)


def deliveries_as(run: Run, state: str) -> list[StoredDelivery]:
    """Return the run's deliveries, all in one state."""
    return [replace(each, state=state) for each in run[1].deliveries]
