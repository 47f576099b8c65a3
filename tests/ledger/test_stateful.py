"""Memory, a real server and the pure machine are asked the same things under the same ids.

Whatever they answer is the same, times apart, and each store is always what its facts fold to.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger import index, machine
from callsheet.ledger.codec import parse_event
from callsheet.ledger.errors import IllegalTransition, LeaseLost, LedgerError, RequestIdReused
from callsheet.ledger.events import TaskCancelled
from callsheet.ledger.ids import requested_task_id
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import (
    NO_TIME,
    Failure,
    FailureReason,
    Progress,
    Submission,
    Task,
    TaskState,
)
from callsheet.ledger.store import Applied, Commit, Refused
from callsheet.ledger.writer import GuardFailed
from callsheet.runtime.redis import connect
from tests.support.ledgers import OWNER, Cell, ping
from tests.support.pure import (
    FUTURE,
    LOST,
    Pure,
    claim_of,
    claimed_of,
    end_attempt,
    ending,
    rescued,
    submission_of,
)
from tests.support.strict_keys import StrictConnection
from tests.support.twins import MOMENT, places, plain, twins

Answer = TypeVar("Answer")

HOUR: Final = timedelta(hours=1)

BOUNDED: Final = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
who = st.integers(0, 9)
leases = st.sampled_from([NO_TIME, HOUR])
reasons = st.sampled_from(
    [FailureReason.INTERNAL, FailureReason.INVALID_INPUT, FailureReason.OUT_OF_MEMORY]
)


with_commits = precondition(lambda self: bool(cast("SideBySide", self).commits))
with_tasks = precondition(lambda self: bool(cast("SideBySide", self).pure.tasks))


class SideBySide(RuleBasedStateMachine):
    """Asks both stores and the machine."""

    def __init__(self, runner: asyncio.Runner, planes: tuple[Cell, Cell]) -> None:
        super().__init__()
        self.runner, self.planes, self.pure = runner, planes, Pure()
        self.views = tuple[dict[str, Task], ...](({}, {}))
        self.commits: list[tuple[tuple[Commit, Applied], ...]] = []

    def ask(self, question: Callable[[Cell], Awaitable[Answer]]) -> list[Answer | LedgerError]:
        """Return what the planes answer, which is the same."""

        async def answer(plane: Cell) -> Answer | LedgerError:
            try:
                return await question(plane)
            except LedgerError as refusal:
                return refusal

        answers = [self.runner.run(answer(plane)) for plane in self.planes]
        assert plain(answers[0]) == plain(answers[1])
        return answers

    def expect(
        self, question: Callable[[Cell], Awaitable[Task]], expected: Task | LedgerError
    ) -> None:
        """Ask for a task; the answer is the machine's."""
        answer = self.ask(question)[0]
        if isinstance(expected, LedgerError):
            assert type(answer) is type(expected)
        else:
            assert plain(answer) == plain(expected)

    def pick(self, number: int) -> str:
        return list(self.pure.tasks)[number % len(self.pure.tasks)]

    def view(self, plane: Cell, task_id: str, *, stale: bool) -> Awaitable[Task]:
        """Return the task as it is, or as it was when it was submitted."""

        async def seen() -> Task:
            return self.views[self.planes.index(plane)][task_id]

        return seen() if stale else plane.writer.read(task_id)

    @rule(
        request=st.sampled_from(["", "", "", "r-1", "r-2"]),
        echo=st.sampled_from(["a", "b"]),
        delay=st.sampled_from([NO_TIME, NO_TIME, MOMENT, HOUR]),
        expire_after=st.sampled_from([None, None, MOMENT, HOUR]),
        priority=st.sampled_from([0, 5, 9]),
    )
    def submit(
        self,
        request: str,
        echo: str,
        delay: timedelta,
        expire_after: timedelta | None,
        priority: int,
    ) -> None:
        command = ping(
            echo, request_id=request, delay=delay, expire_after=expire_after, priority=priority
        )
        answers = self.ask(lambda plane: plane.ledger.submit(OWNER, command))
        asked = submission_of(command)
        task_id = requested_task_id("default", request) if request else ""
        known = self.pure.tasks.get(task_id)
        if known is None:
            self.accept(answers, asked)
        elif known.submission == asked:
            assert plain(answers[0]) == plain(known)
        else:
            assert isinstance(answers[0], RequestIdReused)

    def accept(self, answers: list[Task | LedgerError], submission: Submission) -> None:
        for view, answer in zip(self.views, answers, strict=True):
            assert isinstance(answer, Task)
            view[answer.id] = answer
        task_id = cast("Task", answers[0]).id
        # Of a task that was forgotten, whose request has made it anew.
        self.commits = [made for made in self.commits if made[0][0].task_id != task_id]
        made = self.pure.happen(task_id, machine.submit(submission))
        assert plain(made) == plain(answers[0])

    @with_tasks
    @rule(
        numbers=st.lists(who, min_size=1, max_size=4),
        count=st.integers(1, 3),
        lease=leases,
        twice=st.booleans(),
    )
    def claim(self, numbers: list[int], count: int, lease: timedelta, *, twice: bool) -> None:
        candidates = list(dict.fromkeys(self.pick(number) for number in numbers))

        async def question(plane: Cell) -> tuple[list[Task], list[str]]:
            claim = claim_of(plane, candidates, count=count, lease=lease)
            claimed = await plane.store.claim(claim)
            if twice:
                assert (await plane.store.claim(claim)).started == claimed.started
            return claimed_of(claimed)

        ready = [task_id for task_id in candidates if self.pure.is_ready(task_id)][:count]
        started: list[Task] = []
        for task_id in ready:
            task = self.pure.tasks[task_id]
            event = machine.start(task, worker="w", device="cpu", lease=lease)
            started.append(self.pure.happen(task_id, event))
            self.pure.expired |= {task_id} if lease == NO_TIME else set()
        answer = cast("tuple[list[Task], list[str]]", self.ask(question)[0])
        assert plain(answer[0]) == plain(started)
        left = [task for task in self.pure.tasks.values() if self.pure.is_ready(task.id)]
        left.sort(key=lambda task: -task.submission.priority)
        assert answer[1] == [task.id for task in left]

    @with_tasks
    @rule(number=who, behind=st.integers(0, 1), lease=leases)
    def renew(self, number: int, behind: int, lease: timedelta) -> None:
        task = self.pure.tasks[self.pick(number)]
        attempt = task.attempt - behind
        holds = task.state is TaskState.RUNNING and behind == 0
        answers = self.ask(
            lambda plane: plane.attempts("w", lease=lease).renew([(task.id, attempt)])
        )
        assert answers[0] == [task.sequence if holds else 0]
        if holds:
            self.pure.expired.discard(task.id)
            self.pure.expired |= {task.id} if lease == NO_TIME else set()

    @with_tasks
    @rule(
        number=who,
        behind=st.sampled_from([0, 0, 0, 1]),
        stale=st.booleans(),
        end=st.sampled_from(["succeed", "fail", "hand back", "confirm", "register media"]),
        reason=reasons,
    )
    def end(
        self, number: int, behind: int, end: str, reason: FailureReason, *, stale: bool
    ) -> None:
        task_id = self.pick(number)
        attempt = self.pure.tasks[task_id].attempt - behind
        failure = Failure(reason, "broken")

        async def question(plane: Cell) -> Task:
            seen = await self.view(plane, task_id, stale=stale)
            return await end_attempt(plane, seen, end, attempt, failure)

        self.expect(question, self.pure.decide(task_id, ending(end, attempt, failure)))

    @with_tasks
    @rule(number=who)
    def cancel(self, number: int) -> None:
        task_id = self.pick(number)
        expected = self.pure.decide(
            task_id, lambda task: machine.request_cancel(task, reason="enough")
        )
        self.expect(lambda plane: plane.ledger.cancel(OWNER, task_id, reason="enough"), expected)

    @with_tasks
    @rule(number=who)
    def retry(self, number: int) -> None:
        task = self.pure.tasks[self.pick(number)]
        answers = self.ask(
            lambda plane: plane.ledger.retry(OWNER, task.id, request_id="", trace_parent="")
        )
        if task.state in (TaskState.FAILED, TaskState.CANCELLED):
            self.accept(answers, machine.retry(task))
        else:
            assert isinstance(answers[0], IllegalTransition)

    @rule(renewed=st.booleans())
    def rescue(self, *, renewed: bool) -> None:
        """Give up expired leases; one of them may be renewed after they were looked at."""
        spared = min(self.pure.expired, default="") if renewed else ""

        async def question(plane: Cell) -> list[Task | type[GuardFailed]]:
            time, due = await plane.store.due(plane.keys.leases, limit=100)
            if spared:
                attempt = self.pure.tasks[spared].attempt
                await plane.attempts("w", lease=HOUR).renew([(spared, attempt)])
            return [await rescued(plane, member, time) for member in sorted(due)]

        expected: list[object] = []
        for task_id in sorted(self.pure.expired):
            attempt = self.pure.tasks[task_id].attempt
            if task_id == spared:
                expected.append(GuardFailed)
            else:
                expected.append(self.pure.decide(task_id, ending("fail", attempt, LOST)))
        self.pure.expired.discard(spared)
        assert plain(self.ask(question)[0]) == plain(expected)

    @rule()
    def make_due_tasks_ready(self) -> None:
        async def question(plane: Cell) -> list[str]:
            _, due = await plane.store.due(plane.keys.delayed, limit=100)
            tasks = [await plane.writer.read(task_id) for task_id in due]
            for task in tasks:
                moves = index.due_moves(plane.keys, task)
                again = Commit(task.id, expected=task.sequence, moves=moves)
                assert all(isinstance(a, Applied) for a in await plane.store.commit([again] * 2))
            return sorted(due)

        tasks = self.pure.tasks
        due = sorted(each for each in self.pure.delayed if tasks[each].ready_delay < HOUR)
        assert self.ask(question)[0] == due
        self.pure.delayed -= set(due)

    @rule()
    def expire(self) -> None:
        async def question(plane: Cell) -> list[Task]:
            _, due = await plane.store.due(plane.keys.expiring, limit=100)
            tasks = [await plane.writer.read(task_id) for task_id in sorted(due)]
            waiting = [task for task in tasks if task.state is TaskState.PENDING]
            return [await plane.writer.change(task, machine.expire) for task in waiting]

        expected = [
            self.pure.decide(task.id, machine.expire)
            for _, task in sorted(self.pure.tasks.items())
            if task.state is TaskState.PENDING and task.submission.expire_after == MOMENT
        ]
        assert plain(self.ask(question)[0]) == plain(expected)

    @with_tasks
    @rule(number=who, step=st.integers(0, 9), stale=st.booleans())
    def keep_progress(self, number: int, step: int, *, stale: bool) -> None:
        task = self.pure.tasks[self.pick(number)]
        progress = Progress(step, 9, "", FUTURE)

        async def question(plane: Cell) -> None:
            seen = await self.view(plane, task.id, stale=stale)
            await plane.attempts("w").keep_progress(seen, attempt=task.attempt, progress=progress)

        answer = self.ask(question)[0]
        if stale and task.sequence > 1:
            assert isinstance(answer, LeaseLost)
        else:
            assert answer is None
            self.pure.progress[task.id] = progress

    @with_tasks
    @rule(number=who)
    def commit_twice(self, number: int) -> None:
        """The same commit object, in one call and in another."""
        task_id, event = self.pick(number), TaskCancelled("twice")
        if self.pure.tasks[task_id].is_final:
            return
        made: list[tuple[Commit, Applied]] = []

        async def question(plane: Cell) -> int:
            task = await plane.writer.read(task_id)
            operation = plane.writer.ids.operation()
            commit = plane.writer.commit(task_id, task, event, operation=operation)
            first, second = await plane.store.commit([commit, commit])
            assert isinstance(first, Applied)
            assert await plane.store.commit([commit]) == [first] == [second]
            made.append((commit, first))
            return first.sequence

        assert self.ask(question)[0] == self.pure.happen(task_id, event).sequence
        self.commits.append(tuple(made))

    @with_commits
    @rule(number=who)
    def commit_again(self, number: int) -> None:
        """A commit repeated long after: its task may even have been forgotten."""
        made = self.commits[number % len(self.commits)]
        for plane, (commit, applied) in zip(self.planes, made, strict=True):
            (answer,) = self.runner.run(plane.store.commit([commit]))
            assert answer == (applied if commit.task_id in self.pure.tasks else Refused(None))

    @with_tasks
    @rule(number=who)
    def forget(self, number: int) -> None:
        task = self.pure.tasks[self.pick(number)]
        if not task.is_final:
            return

        async def question(plane: Cell) -> int:
            moves = index.prune_moves(plane.keys, task)
            commit = Commit(task.id, expected=task.sequence, moves=moves)
            (answer,) = await plane.store.commit([commit])
            assert isinstance(answer, Applied)
            return answer.sequence

        assert self.ask(question)[0] == task.sequence
        del self.pure.tasks[task.id]
        self.pure.progress.pop(task.id, None)

    @invariant()
    def every_store_is_what_the_machine_says(self) -> None:
        for plane in self.planes:
            self.runner.run(self.compare(plane))

    async def compare(self, plane: Cell) -> None:
        tasks = self.pure.tasks
        for task_id, task in tasks.items():
            reading = await plane.ledger.get(OWNER, task_id)
            assert plain(reading.task) == plain(task)
            assert reading.progress == self.pure.progress.get(task_id)
            assert await plane.folded(task_id) == reading.task
        standing = places(plane.keys, list(tasks.values()), frozenset(self.pure.delayed))
        for key, members in standing.items():
            found = await plane.store.members(key, limit=100)
            assert {member for member, _ in found} == members, key
        entries = await plane.log.after(LOG_START, limit=1000, timeout=NO_TIME)
        told = [(entry.task_id, parse_event(entry.event).sequence) for entry in entries]
        assert sorted(told) == sorted(self.pure.logged)
        for task_id in tasks:
            assert [n for of, n in told if of == task_id] == self.pure.logged_of(task_id)


def test_the_stores_do_what_the_machine_says(valkey_server: EmbeddedValkey) -> None:
    with asyncio.Runner() as runner:
        redis = connect(valkey_server.url, max_connections=4)
        connection = StrictConnection(redis)

        class FreshCells(SideBySide):
            def __init__(self) -> None:
                super().__init__(runner, twins(connection, f"test-{secrets.token_hex(6)}"))

        run_state_machine_as_test(FreshCells, settings=BOUNDED)
        runner.run(redis.aclose())
