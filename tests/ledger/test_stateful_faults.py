"""The stateful test again, with what a network and a full server add, and the rest of the scripts.

Replies are lost and requests cut in the middle of any rule, and connections repeat them: memory, to
which nothing of this happens, still answers the same.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger import redis_log, redis_scripts, registry_scripts
from callsheet.ledger.errors import LedgerFull, TaskNotFound
from callsheet.ledger.model import NO_TIME
from callsheet.ledger.redis_connection import Word
from callsheet.ledger.registry import Wish
from callsheet.runtime.redis import connect
from tests.ledger.test_stateful import HOUR, SideBySide, who, with_tasks
from tests.support.ledgers import Cell, ping
from tests.support.pure import submission_of
from tests.support.strict_keys import StrictConnection
from tests.support.twins import twins

MOMENT: Final = timedelta(milliseconds=1)
#: Long enough for a connection to try once more.
PATIENCE: Final = timedelta(seconds=5)
ROLES: Final = st.sampled_from(["upkeep", "sidecar"])
HOLDERS: Final = st.sampled_from(["one", "two"])
BOUNDED: Final = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class Wire:
    """A client's way to the server, whose next script is cut before or after it is executed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.next_cut = ""
        self.cuts = 0

    async def execute_command(self, *words: Word) -> object:
        """Send one command."""
        cut = self.next_cut if words[0] in {"EVAL", "EVALSHA"} else ""
        if cut:
            self.next_cut = ""
            self.cuts += 1
        if cut == "before":
            raise RedisConnectionError("cut before")
        reply = cast("object", await self._redis.execute_command(*words))  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves replies untyped
        if cut:
            raise RedisConnectionError("cut after")
        return reply


class UnderFaults(SideBySide):
    """Asks both stores while requests to one of them are cut."""

    def __init__(
        self, runner: asyncio.Runner, planes: tuple[Cell, Cell], redis: Redis, wire: Wire
    ) -> None:
        super().__init__(runner, planes)
        self.redis, self.wire = redis, wire

    @rule(cut=st.sampled_from(["before", "after", "after"]))
    def cut_the_next_request(self, cut: str) -> None:
        self.wire.next_cut = cut

    @with_tasks
    @rule(number=who)
    def fill_the_server(self, number: int) -> None:
        """New work is refused and changes nothing; what was accepted may still end."""
        task_id = self.pick(number)
        self.runner.run(self.refuse_a_submission())
        self.runner.run(self.set_memory(1))
        try:
            self.cancel(number)
        finally:
            self.runner.run(self.set_memory(0))
        assert task_id in self.pure.tasks

    async def refuse_a_submission(self) -> None:
        for plane in self.planes:
            _, commit = plane.writer.submission("not-made", submission_of(ping(priority=0)))
            if plane is self.planes[1]:
                async with full(self):
                    with pytest.raises(LedgerFull):
                        await plane.store.commit([commit])
                with pytest.raises(TaskNotFound):
                    await plane.writer.read("not-made")

    async def set_memory(self, most_bytes: int) -> None:
        await self.redis.config_set("maxmemory", most_bytes)  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves its words untyped

    @rule()
    def hear_a_wake_up(self) -> None:
        self.ask(lambda plane: plane.store.await_wake(("system",), timeout=MOMENT))

    @rule()
    def hear_a_word_of_control(self) -> None:
        self.ask(lambda plane: plane.store.await_control("w", timeout=MOMENT))

    @rule(role=ROLES, holder=HOLDERS, duration=st.sampled_from([NO_TIME, HOUR]))
    def take_a_role(self, role: str, holder: str, duration: timedelta) -> None:
        self.ask(lambda plane: plane.registry.hold(role, holder, duration=duration))

    @rule(role=ROLES, holder=HOLDERS)
    def give_a_role_up(self, role: str, holder: str) -> None:
        self.ask(lambda plane: plane.registry.release(role, holder))

    @rule(worker=HOLDERS)
    def tell_that_a_worker_lives(self, worker: str) -> None:
        self.ask(lambda plane: plane.registry.heartbeat(worker, worker.encode()))

    @rule(worker=HOLDERS)
    def let_a_worker_leave(self, worker: str) -> None:
        self.ask(lambda plane: plane.registry.forget_worker(worker))

    @rule(worker=HOLDERS, wish=st.sampled_from([None, *Wish]))
    def wish_something_of_a_worker(self, worker: str, wish: Wish | None) -> None:
        self.ask(lambda plane: plane.registry.wish(worker, wish))

    @rule()
    def pause_a_queue_for_a_moment(self) -> None:
        self.ask(lambda plane: plane.store.pause("system"))
        self.ask(lambda plane: plane.store.resume("system"))

    @rule(epoch=st.sampled_from(["second", "third"]))
    def change_the_epoch(self, epoch: str) -> None:
        self.ask(lambda plane: plane.log.change_epoch(epoch))

    @invariant()
    def everything_else_is_alike(self) -> None:
        async def known(plane: Cell) -> object:
            workers = await plane.registry.workers(seen_within=HOUR)
            page = await plane.store.page(plane.keys.project("default"), below=None, limit=100)
            _, held = await plane.store.held([plane.keys.reuse("default", "none")])
            return [
                sorted(record for record, _ in workers),
                [member for member, _ in page],
                [await plane.store.rank(plane.keys.ready("system"), each) for each, _ in page],
                held,
                await plane.log.epoch(),
                await plane.log.length(),
                await plane.store.counts(plane.keys.reuse_counts),
            ]

        self.ask(known)


@asynccontextmanager
async def full(machine: UnderFaults) -> AsyncGenerator[None]:
    """Leave the server no room."""
    await machine.set_memory(1)
    try:
        yield
    finally:
        await machine.set_memory(0)


def test_faults_change_no_answer(valkey_server: EmbeddedValkey) -> None:
    with asyncio.Runner() as runner:
        redis = connect(valkey_server.url, max_connections=4)
        wires: list[Wire] = []

        class FreshCells(UnderFaults):
            def __init__(self) -> None:
                wire = Wire(redis)
                wires.append(wire)
                connection = StrictConnection(cast("Redis", wire), patience=PATIENCE)
                cells = twins(connection, f"test-{secrets.token_hex(6)}")
                super().__init__(runner, cells, redis, wire)

        run_state_machine_as_test(FreshCells, settings=BOUNDED)
        runner.run(redis.aclose())
    assert sum(wire.cuts for wire in wires) > 0
    assert not_run() <= {"_TRIM", "_SAVE_CURSOR"}, "a new script needs a rule"


def not_run() -> set[str]:
    """Return the scripts on tasks, log and registry that no rule has run."""
    scripts = {
        name: text
        for module in (redis_scripts, registry_scripts, redis_log)
        for name, text in vars(module).items()
        if isinstance(text, str) and "redis.call" in text and name != "_COMMIT"
    }
    return {name for name, text in scripts.items() if text not in StrictConnection.ran}
