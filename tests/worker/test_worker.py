"""The worker as a real process: it runs, stops, drains, and outlives an outage."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from msgspec.structs import replace
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.codec import encode_event, encode_task, event_of, parse_event
from callsheet.ledger.events import AttemptReturned, CancelRequested
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.machine import evolve
from callsheet.ledger.model import FailureReason, Task, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Commit
from callsheet.runtime.redis import connect
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.ledgers import OWNER, Cell, ping, redis_cell
from tests.support.processes import Room, room

PATIENT = timedelta(seconds=30)


def environment(server: EmbeddedValkey, cell: str, folder: Path, **more: str) -> dict[str, str]:
    return {
        "REDIS_URL": server.url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_STATE_DIR": str(folder),
        "CALLSHEET_WORKER_QUEUES": "system",
        "CALLSHEET_LEASE_SECONDS": "3",
        **more,
    }


def long_ping(seconds: int = 300) -> SubmitCommand:
    spec = TaskSpec(ping=PingInput(duration=Duration(seconds=seconds)))
    return ping(spec=spec.SerializeToString(deterministic=True))


@pytest.fixture
def plane(redis: Redis, cell: str) -> Cell:
    return redis_cell(RedisConnection(redis, patience=PATIENT), cell)


@pytest.fixture
def worker(valkey_server: EmbeddedValkey, cell: str, tmp_path: Path) -> Iterator[Room]:
    with room("worker", environment(valkey_server, cell, tmp_path)) as started:
        yield started


async def running(plane: Cell, seconds: int = 300) -> Task:
    """Submit a long ping, and return it once it runs."""
    task = await plane.ledger.submit(OWNER, long_ping(seconds))
    return await plane.until(task.id, lambda task: task.state is TaskState.RUNNING)


@pytest.mark.usefixtures("worker")
async def test_a_ping_runs_and_its_output_is_recorded(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping("hello"))
    done = await plane.final(task.id)
    assert done.state is TaskState.SUCCEEDED
    output, packed = PingOutput(), AnyMessage.FromString(done.output)
    assert packed.Unpack(output)
    assert output.echo == "hello"
    assert (done.attempt, done.sequence) == (1, 3)
    assert done.usage.queue_seconds >= 0
    assert await plane.folded(task.id) == done
    assert await plane.store.count(plane.keys.leases) == 0


@pytest.mark.usefixtures("worker")
async def test_a_running_ping_stops_when_asked(plane: Cell) -> None:
    task = await running(plane)
    await plane.ledger.cancel(OWNER, task.id, reason="changed my mind")
    done = await plane.final(task.id)
    assert (done.state, done.cancel_reason) == (TaskState.CANCELLED, "changed my mind")


@pytest.mark.usefixtures("worker")
async def test_a_cancel_request_whose_word_was_lost_is_seen_with_the_renewal(plane: Cell) -> None:
    task = await running(plane)
    asked = CancelRequested("quietly")
    silent = Commit(
        task.id,
        expected=task.sequence,
        operation=7,
        event=encode_event(asked, operation=7),
        record=encode_task(evolve(task, asked, time=task.update_time)),
    )
    # When it is asked to stop without a word
    await plane.store.commit([silent])
    # Then the moved sequence reveals it
    assert (await plane.final(task.id)).state is TaskState.CANCELLED


async def test_sigterm_finishes_what_is_short_and_hands_back_what_is_long(
    plane: Cell, valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    variables = environment(valkey_server, cell, tmp_path, CALLSHEET_DRAIN_SECONDS="16")
    with room("worker", variables) as worker:
        short, long = await running(plane, seconds=1), await running(plane)
        assert worker.terminate() == 0
    ended, back = await plane.writer.read(short.id), await plane.writer.read(long.id)
    assert ended.state is TaskState.SUCCEEDED
    assert (back.state, back.attempt, back.failures) == (TaskState.PENDING, 1, 0)
    facts = await plane.store.facts(long.id, after=0, limit=10)
    assert isinstance(event_of(parse_event(facts[-1])), AttemptReturned)
    assert await plane.store.count(plane.keys.leases) == 0
    assert await plane.registry.workers(seen_within=timedelta(hours=1)) == []
    # And another worker takes it up at once
    with room("worker", environment(valkey_server, cell, tmp_path)):
        again = await plane.until(long.id, lambda task: task.state is TaskState.RUNNING)
    assert again.attempt == 2


async def test_an_outage_of_the_ledger_costs_no_attempt(cell: str, tmp_path: Path) -> None:
    """The work goes on meanwhile, and its outcome is recorded when the ledger is back."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    redis = connect(server.url, max_connections=8)
    try:
        plane = redis_cell(RedisConnection(redis, patience=PATIENT), cell)
        with room("worker", environment(server, cell, tmp_path)):
            task = await running(plane, seconds=4)
            server.kill()
            server = EmbeddedValkey(tmp_path / "valkey")
            server.start()
            done = await plane.final(task.id)
            assert (done.state, done.attempt) == (TaskState.SUCCEEDED, 1)
            after = await plane.ledger.submit(OWNER, ping("afterwards"))
            assert (await plane.final(after.id)).state is TaskState.SUCCEEDED
    finally:
        await redis.aclose()
        server.stop()


async def test_an_attempt_past_its_time_limit_fails(plane: Cell, worker: Room) -> None:
    """The in-worker context keeps the limit that the submission states."""
    del worker
    hasty = replace(plane.catalog["ping"], time_limit=timedelta(milliseconds=200), max_attempts=1)
    ledger = Ledger(plane.writer, {"ping": hasty})
    task = await ledger.submit(OWNER, long_ping())
    done = await plane.final(task.id)
    assert done.failure is not None
    assert done.failure.reason is FailureReason.TIME_LIMIT


def test_a_worker_is_light() -> None:
    """Torch belongs to runners: a worker starts in a moment, and nothing in C can starve it."""
    program = "import sys, callsheet.worker.main; print({'torch', 'diffusers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == b"set()"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CALLSHEET_WORKER_QUEUES", "nobody"), ("CALLSHEET_RETRY_SECONDS", "nobody=1")],
)
def test_an_unknown_queue_is_refused_in_one_line(
    valkey_server: EmbeddedValkey, tmp_path: Path, variable: str, value: str
) -> None:
    variables = environment(valkey_server, "x", tmp_path) | {variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "callsheet.worker"],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"{variable}: there is no queue nobody".encode() in done.stderr
