"""Memory and a real server answer equal submissions alike, whatever else happens to their tasks."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger import index
from callsheet.ledger.acceptance import Accepted, Outcome, SubmitCommand
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerError, RequestIdReused
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.store import Applied, Commit
from callsheet.runtime.redis import connect
from tests.support.ledgers import OWNER, STRANGER, Cell
from tests.support.reusing import fail, image, succeed
from tests.support.strict_keys import StrictConnection
from tests.support.twins import plain, twins
from tests.support.work import started

Answer = TypeVar("Answer")

BOUNDED: Final = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
who = st.integers(0, 9)
principals = st.sampled_from([OWNER, OWNER, STRANGER])
commands = st.builds(
    image,
    st.sampled_from(["aa", "bb"]),
    joins=st.booleans(),
    max_age=st.sampled_from([None, None, timedelta(0), timedelta(days=9)]),
    request_id=st.sampled_from(["", "", "r-1", "r-2"]),
    priority=st.sampled_from([None, 9]),
    callback_url=st.sampled_from(["", "https://example.com/a"]),
)


class Equals(RuleBasedStateMachine):
    """Submits, ends and forgets equal tasks in both stores."""

    def __init__(self, runner: asyncio.Runner, planes: tuple[Cell, Cell]) -> None:
        super().__init__()
        self.runner, self.planes = runner, planes
        #: Every task that is kept, as it was seen last.
        self.tasks: dict[str, Task] = {}

    def ask(self, question: Callable[[Cell], Awaitable[Answer]]) -> Answer:
        """Return what the planes answer, which is the same."""

        async def answer(plane: Cell) -> Answer:
            return await question(plane)

        answers = [self.runner.run(answer(plane)) for plane in self.planes]
        assert plain(answers[0]) == plain(answers[1])
        return answers[0]

    @rule(asked=st.lists(commands, min_size=1, max_size=4), principal=principals)
    def submit(self, asked: list[SubmitCommand], principal: Principal) -> None:
        answers = self.ask(lambda plane: plane.ledger.accept_many(principal, asked))
        for command, answer in zip(asked, answers, strict=True):
            self.look_at(command, answer, principal)

    def look_at(
        self, command: SubmitCommand, answer: Accepted | LedgerError, principal: Principal
    ) -> None:
        if isinstance(answer, LedgerError):
            assert isinstance(answer, RequestIdReused)
            return
        task, outcome = answer
        assert command.reuse is not None
        assert task.submission.reuse is not None
        # Whatever answers is of the same project, and equal.
        assert task.submission.project in principal.projects
        assert task.submission.reuse.digest == command.reuse.digest
        new = outcome in {Outcome.CREATED, Outcome.REUSED}
        assert new is (task.id not in self.tasks)
        if outcome is Outcome.JOINED and not command.request_id:
            assert command.reuse.joins
            assert not task.is_final
        if outcome is Outcome.REUSED:
            source = self.tasks[task.reused_from]
            assert (source.state, source.reused_from) == (TaskState.SUCCEEDED, "")
            assert source.output == task.output
            assert source.submission.project == task.submission.project
            assert command.reuse.max_age != timedelta(0)
        self.tasks[task.id] = task

    @rule(number=who, end=st.sampled_from(["succeed", "succeed", "fail", "cancel", "start"]))
    def end(self, number: int, end: str) -> None:
        waiting = [task for task in self.tasks.values() if task.state is TaskState.PENDING]
        if not waiting:
            return
        task_id = waiting[number % len(waiting)].id

        async def question(plane: Cell) -> Task:
            match end:
                case "succeed":
                    return await succeed(plane, task_id)
                case "fail":
                    return await fail(plane, task_id)
                case "cancel":
                    return await plane.ledger.cancel(OWNER_OF_ALL, task_id, reason="")
                case _:
                    return (await started(plane, task_id))[1]

        self.tasks[task_id] = self.ask(question)

    @rule(number=who)
    def forget(self, number: int) -> None:
        """Forget an ended task, if nothing that is kept uses its output: the pruner's order."""
        used = {task.reused_from for task in self.tasks.values()}
        ended = [task for task in self.tasks.values() if task.is_final and task.id not in used]
        if not ended:
            return
        task = ended[number % len(ended)]

        async def question(plane: Cell) -> bool:
            moves = index.prune_moves(plane.keys, task)
            (answer,) = await plane.store.commit([Commit(task.id, task.sequence, moves=moves)])
            return isinstance(answer, Applied)

        assert self.ask(question)
        del self.tasks[task.id]

    def teardown(self) -> None:
        """Every task is what its facts fold to, in both stores."""
        for task_id, task in self.tasks.items():
            read = self.ask(lambda plane, task_id=task_id: plane.writer.read(task_id))
            assert plain(read) == plain(task)
            assert plain(self.ask(lambda plane, each=task_id: plane.folded(each))) == plain(task)

    @invariant()
    def both_count_alike(self) -> None:
        self.ask(lambda plane: plane.store.counts(plane.keys.reuse_counts))

    @invariant()
    def what_is_offered_is_kept(self) -> None:
        for plane in self.planes:
            keys = [
                plane.keys.reuse(project, digest)
                for project in ("default", "elsewhere")
                for digest in ("aa", "bb")
            ]
            _, held = self.runner.run(plane.store.held(keys))
            assert {task_id for task_id in held if task_id} <= set(self.tasks)


OWNER_OF_ALL: Final = Principal("2", OWNER.projects | STRANGER.projects, OWNER.roles)


def test_the_stores_answer_equal_submissions_alike(valkey_server: EmbeddedValkey) -> None:
    with asyncio.Runner() as runner:
        redis = connect(valkey_server.url, max_connections=4)
        connection = StrictConnection(redis)

        class FreshCells(Equals):
            def __init__(self) -> None:
                super().__init__(runner, twins(connection, f"test-{secrets.token_hex(6)}"))

        run_state_machine_as_test(FreshCells, settings=BOUNDED)
        runner.run(redis.aclose())
