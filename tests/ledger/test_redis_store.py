"""What only a real server can get wrong: keys, lost replies, full memory, and going away."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger import credentials, performance, redis_log, redis_scripts
from callsheet.ledger.catalog import task_types
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.errors import LedgerFull, LedgerUnavailable
from callsheet.ledger.index import Keys, due_moves, prune_moves
from callsheet.ledger.instants import instant
from callsheet.ledger.keys import create_key
from callsheet.ledger.ledger import ADMISSION_SHARE
from callsheet.ledger.listing import TaskFilter
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import (
    NO_TIME,
    Failure,
    FailureReason,
    Progress,
    Submission,
    Task,
    TaskState,
    Usage,
)
from callsheet.ledger.performance import HOUR, Counters, Performance, Tally
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.registry import Wish
from callsheet.ledger.store import Applied, Commit
from callsheet.runtime.redis import connect
from tests.support.cut_proxy import CutProxy, Fate, always, cut_proxy
from tests.support.ledgers import LEASE, OWNER, Cell, ping, redis_cell
from tests.support.reusing import fail, image, succeed
from tests.support.strict_keys import StrictConnection
from tests.support.upkeeping import MOMENT, rescuer, running

PATIENCE: Final = timedelta(seconds=20)
BROKEN: Final = Failure(FailureReason.INTERNAL, "broken")
#: More than the memory of the server that is filled.
MANY: Final = 10_000
MEBIBYTE: Final = 1 << 20


@asynccontextmanager
async def through(
    proxy: CutProxy, cell: str, *, socket_timeout: timedelta = timedelta(seconds=5)
) -> AsyncGenerator[Cell, None]:
    """A cell behind the proxy, whose commands are repeated for a while."""
    async with connect(proxy.url, max_connections=8, socket_timeout=socket_timeout) as redis:
        yield redis_cell(RedisConnection(redis, patience=PATIENCE), cell)


@asynccontextmanager
async def own_server(
    folder: Path, cell: str, *, max_memory_bytes: int | None = None
) -> AsyncGenerator[tuple[EmbeddedValkey, Cell, Redis], None]:
    """A server that may be harmed, and a cell on it without patience."""
    with EmbeddedValkey(folder, max_memory_bytes=max_memory_bytes) as server:
        async with connect(server.url, max_connections=8) as redis:
            yield server, redis_cell(RedisConnection(redis), cell), redis


async def live_through_everything(plane: Cell) -> None:
    """Have every script run, and every kind of move made."""
    worker = plane.attempts()
    await worker.succeed(await running(plane), attempt=1, output=b"", usage=Usage())
    failed = await worker.fail(await running(plane), attempt=1, failure=BROKEN)
    await rescuer(plane).run_once()
    lost = await running(plane, lease=NO_TIME)
    await worker.renew([(lost.id, 1)])
    progress = Progress(1, 2, "", instant(1))
    await worker.keep_progress(lost, attempt=1, progress=progress)
    await worker.announce(lost, attempt=1, progress=progress)
    await plane.ledger.cancel(OWNER, lost.id, reason="")
    await worker.confirm_cancel(lost, attempt=1)
    await running(plane, lease=NO_TIME)
    await rescuer(plane).run_once()
    delayed = await plane.ledger.submit(OWNER, ping(delay=MOMENT, expire_after=LEASE))
    ready = Commit(delayed.id, expected=1, moves=due_moves(plane.keys, delayed))
    ended = await plane.ledger.cancel(OWNER, failed.id, reason="")
    forget = Commit(ended.id, expected=ended.sequence, moves=prune_moves(plane.keys, ended))
    answers = await plane.store.commit([ready, forget])
    assert all(isinstance(answer, Applied) for answer in answers)
    await answer_by_reuse(plane)
    await plane.ledger.page(OWNER, TaskFilter(""), page_size=3, page_token="")
    await plane.registry.hold("role", "a", duration=LEASE)
    await plane.registry.release("role", "a")
    await plane.registry.heartbeat("w", b"")
    await plane.registry.wish("w", Wish.PAUSE)
    await plane.registry.workers(seen_within=NO_TIME)
    await plane.ledger.submit(OWNER, ping())
    await plane.store.pause("system")
    await worker.claim(count=1, queues=("system",), candidates=(), device="")
    await plane.store.resume("system")
    await plane.log.save_cursor("reader", await plane.log.end())
    await plane.log.after(LOG_START, limit=5, timeout=NO_TIME)
    await plane.log.trim(await plane.log.end())
    await plane.log.change_epoch("another")


async def count_and_recognise(redis: Redis, strict: StrictConnection, cell: str) -> None:
    """Have performance counted and reported, and a ticket made, recognised and revoked."""
    keys, seen = Keys(cell), Tally()
    seen.look(1_900_000_000_000_000, "system", ready=1, slots=2, busy=1)
    await Counters(strict, keys).add(seen, after="", up_to="1-0")
    await Performance(strict, keys, task_types()).report(OWNER, project="", window=HOUR)
    _, text = await create_key(
        redis, cell=cell, projects=frozenset({"default"}), roles=frozenset({"read"})
    )
    known = Credentials(strict, keys)
    principal = await known.recognise(text)
    ticket, _ = await known.make_ticket(
        principal, time_to_live=LEASE, roles=frozenset(), projects=frozenset()
    )
    shown = await known.recognise(ticket)
    await known.revoke_ticket(shown)


async def answer_by_reuse(plane: Cell) -> None:
    """Have equal submissions made, joined and answered with an output."""
    made, joined = [
        await plane.ledger.submit(OWNER, image(joins=True, request_id=name)) for name in ("a", "b")
    ]
    assert joined == made
    await succeed(plane, made.id)
    reused = await plane.ledger.submit(OWNER, image())
    assert reused.reused_from == made.id
    failed = await plane.ledger.submit(OWNER, image("bb", joins=True))
    await fail(plane, failed.id)


async def test_no_script_touches_a_key_that_it_did_not_declare(redis: Redis, cell: str) -> None:
    StrictConnection.ran.clear()
    strict = StrictConnection(redis)
    await live_through_everything(redis_cell(strict, cell))
    await count_and_recognise(redis, strict, cell)
    # Then not one of them was left out
    scripts = {
        value
        for module in (redis_scripts, redis_log, credentials, performance)
        for value in vars(module).values()
        if isinstance(value, str) and "redis.call" in value
    }
    assert scripts - {redis_scripts.ADMIT, redis_scripts.COMMIT} <= StrictConnection.ran
    assert {redis_scripts.ADMIT, redis_scripts.COMMIT} <= StrictConnection.ran


async def test_a_script_that_touches_another_key_is_found_out(redis: Redis) -> None:
    """Or the test above would prove nothing."""
    for flags in ("", "#!lua flags=allow-oom\n"):
        with pytest.raises(ResponseError, match="undeclared key other"):
            await StrictConnection(redis).script(
                flags + "return redis.call('GET', 'other')", ["declared"], []
            )


@pytest.mark.parametrize("fate", [Fate.CUT, Fate.CUT_AFTER])
async def test_a_broken_connection_has_no_second_effect(
    valkey_server: EmbeddedValkey, cell: str, fate: Fate
) -> None:
    async with cut_proxy(valkey_server.url) as proxy, through(proxy, cell) as plane:
        # Given that a submission, a claim and an end each break twice
        proxy.judge = always(fate, times=2)
        task = await plane.ledger.submit(OWNER, ping())
        proxy.judge = always(fate, times=2)
        started = await running(plane, task)
        proxy.judge = always(fate, times=2)
        ended = await plane.attempts().succeed(started, attempt=1, output=b"", usage=Usage())
        # Then each happened, and once
        assert proxy.troubled == 6
        assert (started.attempt, ended.state) == (1, TaskState.SUCCEEDED)
        assert await plane.folded(task.id) == ended
        assert ended.sequence == 3
        assert len(await plane.log.after(LOG_START, limit=10, timeout=NO_TIME)) == 3
        assert await plane.store.count(plane.keys.leases) == 0


@pytest.mark.parametrize("fate", [Fate.DROP, Fate.DELAY])
async def test_a_server_that_keeps_silent_is_asked_again(
    valkey_server: EmbeddedValkey, cell: str, fate: Fate
) -> None:
    short = timedelta(milliseconds=200)
    async with (
        cut_proxy(valkey_server.url) as proxy,
        through(proxy, cell, socket_timeout=short) as plane,
    ):
        proxy.judge = always(fate, times=1)
        task = await plane.ledger.submit(OWNER, ping())
        proxy.release.set()
        assert proxy.troubled == 1
        assert await plane.folded(task.id) == task
        assert len(await plane.log.after(LOG_START, limit=10, timeout=NO_TIME)) == 1


async def test_a_server_that_is_gone_is_unavailable_and_then_goes_on(
    tmp_path: Path, cell: str
) -> None:
    async with own_server(tmp_path, cell) as (server, plane, redis):
        task = await plane.ledger.submit(OWNER, ping())
        server.kill()
        with pytest.raises(LedgerUnavailable):
            await plane.ledger.submit(OWNER, ping())
        impatient = redis_cell(RedisConnection(redis, patience=timedelta(seconds=0.1)), cell)
        with pytest.raises(LedgerUnavailable) as refusal:
            await impatient.ledger.get(OWNER, task.id)
        assert refusal.value.retry_delay > NO_TIME
        # When somebody who has patience asks, and the server comes back
        patient = redis_cell(RedisConnection(redis, patience=PATIENCE), cell)
        asking = asyncio.create_task(patient.ledger.get(OWNER, task.id))
        await asyncio.to_thread(server.start)
        # Then nothing accepted was lost
        assert (await asking).task == task
        assert (await plane.ledger.submit(OWNER, ping())).state is TaskState.PENDING


async def test_a_server_that_forgot_the_scripts_is_told_them_again(
    tmp_path: Path, cell: str
) -> None:
    async with own_server(tmp_path, cell) as (_, plane, redis):
        connection = RedisConnection(redis)
        for _ in range(2):
            task = await running(plane)
            await connection.command("SCRIPT FLUSH")
            assert (await plane.writer.read(task.id)) == task


async def test_when_memory_has_run_out_work_ends_and_none_is_accepted(
    tmp_path: Path, cell: str
) -> None:
    async with own_server(tmp_path, cell, max_memory_bytes=8 * MEBIBYTE) as (_, plane, _redis):
        # Given running tasks, and a memory that submissions have filled
        going = [await running(plane) for _ in range(6)]
        await fill(plane)
        accepted = await plane.store.count(plane.keys.project("default"))
        # When everything that may happen to them happens
        worker = plane.attempts()
        await worker.renew([(task.id, 1) for task in going])
        await worker.succeed(going[0], attempt=1, output=b"", usage=Usage())
        await worker.fail(going[1], attempt=1, failure=BROKEN)
        await worker.hand_back(going[2], attempt=1, reason="")
        await worker.keep_progress(going[3], attempt=1, progress=Progress(1, 2, "", instant(1)))
        await plane.ledger.cancel(OWNER, going[3].id, reason="")
        await worker.confirm_cancel(going[3], attempt=1)
        again = await running(plane, going[2])
        assert again.attempt == 2
        await plane.registry.heartbeat("w", b"")
        assert await plane.registry.hold("role", "a", duration=LEASE)
        await plane.log.save_cursor("reader", await plane.log.end())
        assert await plane.log.trim(await plane.log.end()) > 0
        await plane.log.change_epoch("another")
        for task in going:
            assert await plane.folded(task.id) == await plane.writer.read(task.id)
        # Then nothing was accepted meanwhile
        assert await plane.store.count(plane.keys.project("default")) == accepted


async def fill(plane: Cell) -> Submission:
    """Submit, past the ledger's own admission, until the server refuses; return what it refused."""
    submission = (await plane.ledger.submit(OWNER, ping("x" * 20_000))).submission

    async def submit_many() -> None:
        for number in range(MANY):
            await plane.store.commit([plane.writer.submission(f"t-{number}", submission)[1]])

    with pytest.raises(LedgerFull):
        await submit_many()
    return submission


async def test_an_end_and_a_submission_of_one_batch_are_answered_apart(
    tmp_path: Path, cell: str
) -> None:
    async with own_server(tmp_path, cell, max_memory_bytes=8 * MEBIBYTE) as (_, plane, _redis):
        task = await running(plane)
        refused = plane.writer.submission("late", await fill(plane))[1]
        # Given both in one batch: they are put in the same turn of the loop
        ended, refusal = await asyncio.gather(
            plane.attempts().succeed(task, attempt=1, output=b"", usage=Usage()),
            plane.store.commit([refused]),
            return_exceptions=True,
        )
        # Then what stands is not said to be refused
        assert isinstance(refusal, LedgerFull)
        assert isinstance(ended, Task)
        assert await plane.writer.read(task.id) == ended
        assert await plane.store.read(["late"]) == [None]


async def test_admission_stops_before_the_server_has_to_refuse(tmp_path: Path, cell: str) -> None:
    async with own_server(tmp_path, cell, max_memory_bytes=8 * MEBIBYTE) as (_, plane, _redis):

        async def submit_many() -> None:
            for _ in range(MANY):
                await plane.ledger.submit(OWNER, ping("x" * 2_000))

        with pytest.raises(LedgerFull) as refusal:
            await submit_many()
        used, limit = refusal.value.used_bytes, refusal.value.limit_bytes
        assert limit == 8 * MEBIBYTE
        assert ADMISSION_SHARE * limit < used < limit


async def test_a_finished_small_task_takes_no_more_than_two_kilobytes(
    tmp_path: Path, cell: str
) -> None:
    """Its facts, its record and its places in the indexes; the log is trimmed."""
    count = 500
    async with own_server(tmp_path, cell) as (_, plane, redis):
        for task in await plane.ledger.submit_many(OWNER, [ping()] * count):
            started = await running(plane, cast("Task", task))
            await plane.attempts().succeed(started, attempt=1, output=b"", usage=Usage())
        connection = RedisConnection(redis)
        keys = cast("list[bytes]", await connection.command("KEYS", f"{plane.keys.prefix}*"))
        sizes = [
            cast("int", await connection.command("MEMORY USAGE", key, "SAMPLES", 0))
            for key in keys
            if key != plane.keys.log.encode()
        ]
        assert len(keys) > count
        assert sum(sizes) / count <= 2048


async def test_group_commit_shares_scripts(valkey_server: EmbeddedValkey, cell: str) -> None:
    """A hundred submissions at once cost a few round trips, not a hundred."""
    async with cut_proxy(valkey_server.url) as proxy, through(proxy, cell) as plane:
        scripts = 0

        def count(command: bytes) -> Fate:
            nonlocal scripts
            scripts += b"EVAL" in command
            return Fate.PASS

        await plane.ledger.submit(OWNER, ping())
        proxy.judge = count
        await asyncio.gather(*[plane.ledger.submit(OWNER, ping()) for _ in range(100)])
        assert scripts <= 10
