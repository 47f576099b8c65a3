"""Runs that no checker may let pass: what is wrong in a sentence, and the invariant it breaks."""

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from tests.chaos.checker_runs import (
    Facts,
    Run,
    changed,
    deliveries_as,
    good_run,
    left,
    renumbered,
    with_facts,
    with_records,
    with_task,
    without,
    without_task,
)
from tests.chaos.checks.report import Invariant
from tests.chaos.final_state import StoredFact
from tests.chaos.history import (
    CallAnswered,
    CallRefused,
    FaultBegun,
    Flow,
    ForeignProbe,
    Healed,
    ListedTask,
    RefusedProbe,
    WatchEnded,
    WatchFact,
    WatchOpened,
    WatchTold,
    WebhookReceived,
    WorkEnded,
    WorkStarted,
)

_I = Invariant
Spoil = Callable[[Run], Run]

PLAIN, LOST, BROKEN = "task-plain", "task-lost", "task-broken"
STOPPED, WAITING, AGAIN = "task-stopped", "task-waiting", "task-again"


def record(kind: type[Any], nth: int = 0, **fields: object) -> Spoil:
    """Change one record."""
    return lambda run: changed(run, kind, nth=nth, **fields)


def gone(kind: type[Any], nth: int = 0) -> Spoil:
    """Lose one record."""
    return lambda run: without(run, kind, nth=nth)


def again(kind: type[Any], nth: int = 0, **fields: object) -> Spoil:
    """See one record once more, with other fields."""

    def spoil(run: Run) -> Run:
        found = [each for each in run[0] if isinstance(each, kind)][nth]
        return with_records(run, replace(found, **fields))

    return spoil


def task(task_id: str, **fields: object) -> Spoil:
    """Change fields of a stored task."""
    return lambda run: with_task(run, task_id, **fields)


def facts(task_id: str, change: Callable[[Facts], Facts]) -> Spoil:
    """Change the facts of a stored task, and its record with them."""
    return lambda run: with_facts(run, task_id, change)


def fact(task_id: str, sequence: int, **fields: object) -> Spoil:
    """Change one stored fact."""
    return facts(
        task_id,
        lambda old: [replace(f, **fields) if f.sequence == sequence else f for f in old],
    )


def one_more(name: str, attempt: int = 0) -> Callable[[Facts], Facts]:
    """Append a fact."""

    def change(old: Facts) -> Facts:
        extra = StoredFact(sequence=len(old) + 1, fact=name, digest="x", time=1, attempt=attempt)
        return [*old, extra]

    return change


def late(task_id: str, **fields: object) -> Spoil:
    """Let the work of a task, all of its records, be of another time."""

    def spoil(run: Run) -> Run:
        records = [
            replace(each, **fields)
            if isinstance(each, WorkStarted | WorkEnded) and each.task_id == task_id
            else each
            for each in run[0]
        ]
        return records, run[1]

    return spoil


def brain(**fields: object) -> Spoil:
    """Change one fact in the brain."""
    return lambda run: left(run, brain=[replace(run[1].brain[0], **fields), *run[1].brain[1:]])


def unfaulted(run: Run) -> Run:
    """Let nothing have befallen the worker that lost an attempt."""
    return without(run, FaultBegun)


def innocent(run: Run) -> Run:
    """Let a task that failed have been one that never fails by itself."""
    records = [
        replace(each, intent="succeed")
        if getattr(each, "request_id", "") == "request-broken"
        else each
        for each in run[0]
    ]
    return records, run[1]


def nth_of(kind: type[Any], **wanted: object) -> int:
    """Return which record of a kind of the good run has these fields."""
    found = [each for each in good_run()[0] if isinstance(each, kind)]
    return next(
        place
        for place, each in enumerate(found)
        if all(getattr(each, name) == value for name, value in wanted.items())
    )


_CANCEL_OF_WAITING: Final = nth_of(CallAnswered, task_id=WAITING) + 1
_END_HEARD: Final = nth_of(WebhookReceived, task_id=PLAIN, event="completed", answered=204)

#: What is wrong with a run, by a sentence: which invariant must name it, and how it is made.
BAD: Final[dict[str, tuple[Invariant, Spoil]]] = {
    "an acknowledged task is gone": (_I.SUBMIT_KEPT, lambda run: without_task(run, PLAIN)),
    "a repetition was answered with another task": (
        _I.SUBMIT_KEPT,
        record(CallAnswered, 1, task_id=LOST),
    ),
    "a request whose reply was lost made two tasks": (
        _I.SUBMIT_KEPT,
        task(LOST, request_id="request-plain"),
    ),
    "one request id was accepted for two specs": (
        _I.SUBMIT_KEPT,
        lambda run: (
            [
                replace(each, spec_digest="other")
                if getattr(each, "call", "") == "call-3" and hasattr(each, "spec_digest")
                else each
                for each in run[0]
            ],
            run[1],
        ),
    ),
    "the task has a spec that nobody asked for": (_I.SUBMIT_KEPT, task(PLAIN, spec_digest="other")),
    "one retry made two tasks": (
        _I.SUBMIT_KEPT,
        task(WAITING, retry_of=BROKEN, request_id=""),
    ),
    "a task never ended": (_I.ONE_END, facts(PLAIN, lambda old: old[:2])),
    "a task has two ends": (_I.ONE_END, facts(STOPPED, one_more("task_succeeded", attempt=1))),
    "a task started again after its end": (
        _I.ONE_END,
        facts(PLAIN, one_more("attempt_started", attempt=2)),
    ),
    "a task that failed has media": (_I.ONE_END, facts(BROKEN, one_more("media_registered"))),
    "a call was told another end": (
        _I.ONE_END,
        record(CallAnswered, _CANCEL_OF_WAITING - 1, state="SUCCEEDED"),
    ),
    "a task that ended waits still in a ready set": (
        _I.ONE_END,
        lambda run: left(run, ready=[PLAIN]),
    ),
    "a task that ended has a lease still": (
        _I.ONE_END,
        lambda run: left(run, leases=[f"{PLAIN}/1"]),
    ),
    "running work was cancelled and nobody asked": (
        _I.ONE_END,
        facts(STOPPED, lambda old: renumbered([f for f in old if f.fact != "cancel_requested"])),
    ),
    "a stored fact is missing": (_I.IN_ORDER, task(LOST, facts=[])),
    "a stored fact in the middle is missing": (
        _I.IN_ORDER,
        lambda run: with_task(
            run,
            LOST,
            facts=[
                f for t in run[1].tasks if t.task_id == LOST for f in t.facts if f.sequence != 3
            ],
        ),
    ),
    "one write stands twice": (
        _I.IN_ORDER,
        fact(LOST, 3, operation=good_run()[1].tasks[1].facts[1].operation),
    ),
    "a watcher missed a fact": (_I.IN_ORDER, gone(WatchFact, 2)),
    "a watcher was told a fact twice": (_I.IN_ORDER, again(WatchFact, 2)),
    "a watcher missed what came while it was away": (_I.IN_ORDER, record(WatchOpened, 1, after=3)),
    "a watcher was told something else than is stored": (
        _I.IN_ORDER,
        record(WatchFact, 1, digest="other"),
    ),
    "a watcher was told what is not stored": (_I.IN_ORDER, record(WatchFact, 1, task_id="task-x")),
    "a watch was ended before the end": (_I.IN_ORDER, gone(WatchFact, -1)),
    "a watcher waits still": (_I.IN_ORDER, gone(WatchEnded)),
    "a client found a gap in what its server told": (
        _I.IN_ORDER,
        lambda run: with_records(
            run, WatchTold(at=999, watch="watch-x", code="DATA_LOSS", reason="SEQUENCE_GAP")
        ),
    ),
    "the epoch changed": (_I.IN_ORDER, record(WatchFact, 0, epoch="e2")),
    "the record says another state": (_I.FOLDS, task(PLAIN, record_state="RUNNING")),
    "the record lags behind a fact that is no claim": (_I.FOLDS, task(PLAIN, record_sequence=3)),
    "the record counts a hand-back as a failure": (_I.FOLDS, task(LOST, record_failures=2)),
    "the record forgot that a cancel was requested": (
        _I.FOLDS,
        task(STOPPED, record_cancel_requested=False),
    ),
    "the attempt counter is ahead": (_I.FOLDS, task(PLAIN, attempt=2)),
    "a reader is shown another attempt": (_I.FOLDS, task(PLAIN, shown_attempt=2)),
    "a task was submitted twice": (
        _I.FOLDS,
        facts(BROKEN, lambda old: renumbered([old[0], *old])),
    ),
    "an attempt started while another had the lease": (
        _I.FENCED,
        facts(LOST, lambda old: renumbered([f for f in old if f.fact != "attempt_failed"])),
    ),
    "an attempt's number was skipped": (_I.FENCED, fact(PLAIN, 2, attempt=2)),
    "the result is of an attempt that was lost": (_I.FENCED, fact(LOST, 7, attempt=1)),
    "work ran without a lease": (_I.FENCED, again(WorkStarted, 0, attempt=9, pid=9)),
    "work ran at a task that does not exist": (_I.FENCED, again(WorkStarted, 0, task_id="task-x")),
    "one attempt worked twice": (_I.FENCED, again(WorkStarted, 0, pid=99)),
    "another worker worked than has the lease": (_I.FENCED, record(WorkStarted, 0, worker="x")),
    "two attempts worked at once": (
        _I.FENCED,
        record(WorkEnded, nth_of(WorkEnded, task_id=LOST, attempt=2), at=900.0),
    ),
    "a task succeeded and nobody worked": (_I.FENCED, gone(WorkStarted, 0)),
    "a task succeeded by work that failed": (_I.FENCED, record(WorkEnded, 0, outcome="raised")),
    "more attempts failed than may": (_I.BOUNDED, task(LOST, max_attempts=1)),
    "a task failed before its limit": (_I.BOUNDED, task(BROKEN, max_attempts=3)),
    "an attempt was lost though nothing befell its worker": (_I.BOUNDED, unfaulted),
    "an outage of the ledger cost an attempt": (_I.BOUNDED, record(FaultBegun, 0, target="valkey")),
    "a short cut of a link cost an attempt": (
        _I.BOUNDED,
        record(FaultBegun, 0, fault_kind="cut", target="worker-1>valkey"),
    ),
    "a task failed that never fails by itself": (_I.BOUNDED, innocent),
    "the end of a task was told to nobody": (
        _I.TOLD,
        record(WebhookReceived, _END_HEARD, answered=0),
    ),
    "a webhook tells of what never happened": (_I.TOLD, record(WebhookReceived, 0, sequence=9)),
    "a webhook tells of a task that does not exist": (
        _I.TOLD,
        record(WebhookReceived, 0, task_id="task-x"),
    ),
    "a webhook says something else than its fact": (
        _I.TOLD,
        record(WebhookReceived, 0, event="failed"),
    ),
    "a webhook is not signed": (_I.TOLD, record(WebhookReceived, 0, signature_valid=False)),
    "a repetition has another webhook-id": (
        _I.TOLD,
        record(WebhookReceived, 0, webhook_id="e1_x_2"),
    ),
    "two facts share a webhook-id": (
        _I.TOLD,
        record(WebhookReceived, 2, webhook_id=f"e1_{PLAIN}_2"),
    ),
    "a repetition has another body": (_I.TOLD, record(WebhookReceived, 0, body_digest="other")),
    "a webhook was not asked for": (_I.TOLD, task(PLAIN, callback_events=[])),
    "a webhook tells of an attempt that never was": (
        _I.TOLD,
        record(WebhookReceived, 0, attempt=7),
    ),
    "a delivery waits still": (
        _I.TOLD,
        lambda run: left(run, deliveries=deliveries_as(run, "WAITING")),
    ),
    "a delivery was given up": (
        _I.TOLD,
        lambda run: left(run, deliveries=deliveries_as(run, "DEAD")),
    ),
    "the brain missed a fact": (_I.REMEMBERED, lambda run: left(run, brain=run[1].brain[1:])),
    "the brain has a fact twice": (_I.REMEMBERED, brain(count=2)),
    "the brain has a fact under another key as well": (
        _I.REMEMBERED,
        lambda run: left(run, brain=[*run[1].brain, replace(run[1].brain[0], epoch="e2")]),
    ),
    "the brain has what never happened": (_I.REMEMBERED, brain(task_id="task-x")),
    "the brain has another fact under the key": (_I.REMEMBERED, brain(event="failed")),
    "the brain has a fact of another time": (_I.REMEMBERED, brain(time=5)),
    "a brain write was given up": (
        _I.REMEMBERED,
        lambda run: left(run, brain_dead=[f"e1/{PLAIN}/1"]),
    ),
    "a cancelled task succeeded all the same": (
        _I.STOPPED,
        facts(STOPPED, lambda old: [*old[:-1], replace(old[-1], fact="task_succeeded", attempt=1)]),
    ),
    "a cancelled task failed instead": (
        _I.STOPPED,
        facts(WAITING, lambda old: [old[0], replace(old[1], fact="task_failed", reason="EXPIRED")]),
    ),
    "an attempt started after a request to stop": (
        _I.STOPPED,
        facts(
            STOPPED,
            lambda old: renumbered([*old[:3], replace(old[1], attempt=2), old[3]]),
        ),
    ),
    "work began long after it was cancelled": (_I.STOPPED, late(STOPPED, at=400.0)),
    "work went on long after it was cancelled": (
        _I.STOPPED,
        record(WorkEnded, nth_of(WorkEnded, task_id=STOPPED), at=400.0),
    ),
    "a refused submission made a task": (
        _I.REFUSED,
        task(WAITING, project="alpha", request_id="request-refused"),
    ),
    "a task was made that nobody submitted": (_I.REFUSED, task(PLAIN, request_id="request-x")),
    "a refused cancel stopped a task": (
        _I.REFUSED,
        lambda run: (
            [
                CallRefused(at=each.at, call=each.call, code="NOT_FOUND")
                if isinstance(each, CallAnswered) and each.task_id == WAITING
                else each
                for each in run[0]
            ],
            run[1],
        ),
    ),
    "a task was cancelled that nobody cancelled": (
        _I.REFUSED,
        facts(AGAIN, lambda old: [old[0], replace(old[1], fact="task_cancelled", attempt=0)]),
    ),
    "what was refused changed its task": (_I.REFUSED, record(RefusedProbe, 0, after="9")),
    "what must be refused was accepted": (_I.REFUSED, record(RefusedProbe, 0, code="OK")),
    "a foreign task was shown": (_I.APART, record(ForeignProbe, 0, code="OK")),
    "a foreign task was told from an unknown one": (
        _I.APART,
        record(ForeignProbe, 0, code="PERMISSION_DENIED"),
    ),
    "a foreign task stands in a list": (_I.APART, record(ListedTask, 0, task_id=PLAIN)),
    "a foreign project watches a task": (_I.APART, record(WatchOpened, 0, project="beta")),
    "a webhook went to another receiver": (_I.APART, record(WebhookReceived, 0, receiver="sour")),
    "a webhook names another project": (_I.APART, record(WebhookReceived, 0, project="beta")),
    "the brain has a fact for another project": (_I.APART, brain(project="beta")),
    "an answer is of another project's task": (_I.APART, task(PLAIN, project="beta")),
    "no work flowed after the healing": (_I.FLOWS, gone(Flow)),
    "work flowed too late after the healing": (_I.FLOWS, record(Flow, 0, at=900.0)),
    "the task that flowed is not there": (_I.FLOWS, record(Flow, 0, task_id="task-x")),
    "nothing was healed": (_I.FLOWS, lambda run: without(without(run, Healed), Flow)),
}
