"""Answers submissions with what equal ones of their project made, or are making.

One key for each digest holds the task to look at: from its submission, if it may be joined, and
from its success until its output is too old. It expires by itself, goes with its task, and every
use of it is a commit that stands only while it still holds that very task: so of two equal
submissions one is made and the other one joins, and no output is used whose task is gone.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from callsheet.ledger import index, machine
from callsheet.ledger.acceptance import (
    Accepted,
    Outcome,
    Prepared,
    ReuseWish,
    accepted,
    asked_digest,
    repeated,
)
from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import LedgerError, RequestIdReused, UnknownVersion
from callsheet.ledger.index import Move, Op
from callsheet.ledger.instants import instant, microseconds, span
from callsheet.ledger.model import Submission, Task, TaskState
from callsheet.ledger.store import Applied, Commit, Holds, Refused, Stored
from callsheet.ledger.writer import Writer

#: Looks at what may answer before the task is made without it: others were first each time.
TRIES: Final = 4
#: How long a task that waits or runs may be joined.
JOINABLE: Final = timedelta(days=1)
#: What a request that joined is remembered for, beside the retention that starts with the task's
#: end: for the time until then.
UNTIL_END: Final = timedelta(days=7)


class Wanted(NamedTuple):
    """A submission that may be answered by an equal one, and where that is looked up."""

    prepared: Prepared
    wish: ReuseWish
    entry: str

    @property
    def submission(self) -> Submission:
        """What is asked for."""
        return self.prepared.task.submission


class Joined(NamedTuple):
    """What is remembered of a request that joined a task; nothing of any other."""

    task_id: str
    #: The digest of all that was asked for.
    asked: str

    @classmethod
    def parse(cls, held: str) -> "Joined":
        """Return what the key holds."""
        task_id, _, asked = held.partition(" ")
        return cls(task_id, asked)

    def __str__(self) -> str:
        return f"{self.task_id} {self.asked}"


class Found(NamedTuple):
    """What there is at one look: the time, and tasks that may answer."""

    time: int
    #: What the entry holds, whether or not there is such a task; empty for nothing.
    held: str
    #: The task that the entry holds.
    equal: Task | None
    #: The task that the same request made, or joined, before.
    own: Task | None
    joined: Task | None
    #: The digest of what the request asked for that joined.
    joined_asked: str


class Attempt(NamedTuple):
    """A commit, and what answers the submission if it stands."""

    commit: Commit
    answer: Accepted


class Reuse:
    """Looks, decides and commits; looks again when somebody was first."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._keys = writer.keys

    async def submit(self, prepared: Sequence[Prepared]) -> list[Accepted | LedgerError]:
        """Answer submissions that carry a wish, each on its own; answers in order."""
        waiting = {number: self._wanted(each) for number, each in enumerate(prepared)}
        answers: dict[int, Accepted | LedgerError] = {}
        for _ in range(TRIES):
            if not waiting:
                break
            round_answers = await self._round(list(waiting.values()))
            for number, answer in zip(list(waiting), round_answers, strict=True):
                if answer is not None:
                    answers[number] = answer
                    del waiting[number]
        if waiting:
            answers |= await self._without_looking(waiting)
        return [answers[number] for number in range(len(prepared))]

    async def _round(self, wanted: Sequence[Wanted]) -> list[Accepted | LedgerError | None]:
        """Return an answer for each, or None where somebody else was first."""
        decisions = [
            self._decide(each, found)
            for each, found in zip(wanted, await self._look(wanted), strict=True)
        ]
        commits = [each.commit for each in decisions if isinstance(each, Attempt)]
        settled = iter(await self._writer.store.commit(commits) if commits else ())
        return [
            _settled(each, next(settled)) if isinstance(each, Attempt) else each
            for each in decisions
        ]

    async def _without_looking(
        self, waiting: dict[int, Wanted]
    ) -> dict[int, Accepted | LedgerError]:
        """Make the tasks: where many submit the same at once, some of them are made twice."""
        unfit = {
            number: each.prepared.unfit
            for number, each in waiting.items()
            if each.prepared.unfit is not None
        }
        fit = {number: each for number, each in waiting.items() if number not in unfit}
        made = [self._missed(each, held="", leaves_entry=True) for each in fit.values()]
        commits = [each.commit for each in made]
        settled = await self._writer.store.commit(commits) if commits else ()
        return unfit | {
            number: accepted(each.prepared, answer)
            for (number, each), answer in zip(fit.items(), settled, strict=True)
        }

    async def _look(self, wanted: Sequence[Wanted]) -> list[Found]:
        entries = [each.entry for each in wanted]
        joined = [self._keys.joined(each.prepared.task.id) for each in wanted]
        time, held = await self._writer.store.held([*entries, *joined])
        equal_ids = held[: len(wanted)]
        before = [Joined.parse(each) for each in held[len(wanted) :]]
        own_ids = [each.prepared.task.id if each.prepared.request_id else "" for each in wanted]
        joined_ids = [each.task_id for each in before]
        named = list(dict.fromkeys(each for each in (*equal_ids, *own_ids, *joined_ids) if each))
        stored = await self._writer.store.read(named) if named else []
        tasks = {each.task_id: _readable(each) for each in stored if each is not None}
        return [
            Found(time, equal, tasks.get(equal), tasks.get(own), tasks.get(task_id), asked)
            for equal, own, (task_id, asked) in zip(equal_ids, own_ids, before, strict=True)
        ]

    def _decide(self, wanted: Wanted, found: Found) -> Attempt | Accepted | LedgerError:
        if found.own is not None:
            return repeated(wanted.prepared, found.own)
        if found.joined is not None:
            return _joined_before(wanted, found.joined, asked=found.joined_asked)
        equal = found.equal
        if equal is not None and not _is_equal(wanted, equal):
            equal = None
        if equal is not None and _is_fresh(wanted, equal, time=found.time):
            return self._reused(wanted, equal)
        if equal is not None and wanted.wish.joins and _may_join(wanted, equal):
            return self._joined(wanted, equal)
        if wanted.prepared.unfit is not None:
            return wanted.prepared.unfit
        joinable = equal is not None and not equal.is_final
        return self._missed(wanted, held=found.held, leaves_entry=joinable)

    def _missed(self, wanted: Wanted, *, held: str, leaves_entry: bool = False) -> Attempt:
        """Return the commit of a new task; if it may be joined, nobody else was first with it."""
        prepared = wanted.prepared
        moves = (*prepared.commit.moves, self._count(wanted, "misses"))
        commit = prepared.commit._replace(moves=moves)
        if wanted.wish.joins and not leaves_entry:
            entry = Move(Op.KEEP, wanted.entry, score=span(JOINABLE))
            commit = commit._replace(moves=(*moves, entry), guard=Holds(wanted.entry, held))
        return Attempt(commit, Accepted(prepared.task, Outcome.CREATED))

    def _reused(self, wanted: Wanted, equal: Task) -> Attempt:
        task, commit = self._writer.reused(wanted.prepared.task, equal)
        moves = (*commit.moves, self._count(wanted, "hits"))
        commit = commit._replace(moves=moves, guard=Holds(wanted.entry, equal.id))
        return Attempt(commit, Accepted(task, Outcome.REUSED))

    def _joined(self, wanted: Wanted, equal: Task) -> Attempt:
        moves = [self._count(wanted, "joins")]
        if wanted.prepared.request_id:
            remembered = self._keys.joined(wanted.prepared.task.id)
            joined = Joined(equal.id, asked_digest(wanted.submission))
            length = self._writer.retention + span(UNTIL_END)
            moves.append(Move(Op.KEEP, remembered, str(joined), length))
        commit = Commit(
            equal.id,
            expected=equal.sequence,
            moves=tuple(moves),
            guard=Holds(wanted.entry, equal.id),
            admits=True,
        )
        return Attempt(commit, Accepted(equal, Outcome.JOINED))

    def _wanted(self, prepared: Prepared) -> Wanted:
        if prepared.reuse is None:
            raise ValueError(f"the submission of task {prepared.task.id} carries no wish")
        project = prepared.task.submission.project
        entry = self._keys.reuse(project, prepared.reuse.digest)
        return Wanted(prepared, prepared.reuse, entry)

    def _count(self, wanted: Wanted, what: str) -> Move:
        member = index.reuse_count(wanted.submission.task_type, what)
        return Move(Op.COUNT, self._keys.reuse_counts, member, 1)


def _settled(attempt: Attempt, answer: Applied | Refused) -> Accepted | None:
    if not isinstance(answer, Applied):
        return None
    task, outcome = attempt.answer
    if outcome is Outcome.JOINED:
        return attempt.answer
    return Accepted(machine.at(task, instant(answer.time)), outcome)


def _readable(stored: Stored) -> Task | None:
    """Return the task; None for one that only newer code can read, which then answers nobody."""
    try:
        return decode_task(stored)
    except UnknownVersion:
        return None


def _joined_before(wanted: Wanted, task: Task, *, asked: str) -> Accepted | LedgerError:
    if asked_digest(wanted.submission) != asked:
        return RequestIdReused(wanted.prepared.request_id, task.id)
    return Accepted(task, Outcome.JOINED)


def _is_equal(wanted: Wanted, task: Task) -> bool:
    terms, submission = task.submission.reuse, task.submission
    return (
        terms is not None
        and terms.digest == wanted.wish.digest
        and submission.project == wanted.submission.project
        and submission.task_type == wanted.submission.task_type
    )


def _is_fresh(wanted: Wanted, task: Task, *, time: int) -> bool:
    """Whether the task's output is its own and no older than anybody's limit."""
    terms = task.submission.reuse
    if task.state is not TaskState.SUCCEEDED or task.reused_from or terms is None:
        return False
    limit = terms.ttl if wanted.wish.max_age is None else min(terms.ttl, wanted.wish.max_age)
    return time - microseconds(task.update_time) < span(limit)


def _may_join(wanted: Wanted, task: Task) -> bool:
    """Whether the task serves who joins as one of its own would."""
    mine, theirs = wanted.submission, task.submission
    told = not mine.callback_url or _told(mine) == _told(theirs)
    return (
        not task.is_final
        and not task.cancel_requested
        and told
        and mine.priority <= theirs.priority
        and mine.delay == theirs.delay
        and mine.expire_after == theirs.expire_after
        # Some of the time that it may wait has passed: it would fail sooner than one's own.
        and (mine.expire_after is None or task.state is TaskState.RUNNING)
    )


def _told(submission: Submission) -> tuple[object, ...]:
    """Return what webhooks of the task depend on, beside what becomes of it."""
    return submission.callback_url, submission.callback_events, dict(submission.metadata)
