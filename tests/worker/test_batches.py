"""Tasks that wait for a device and have enough in common are run together, by a real runner."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from PIL import Image

from callsheet.artifacts.store import ArtifactStore
from callsheet.broker.chooser import ChoiceRules
from callsheet.broker.slots import Slots
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.codec import event_of, parse_event
from callsheet.ledger.events import AttemptReturned, AttemptStarted
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.waiting import live_workers
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.ledger_clock import LedgerClock
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.worker import LedgerWorker, Shape
from tests.support.eventually import eventually
from tests.support.ledgers import LEASE, OWNER, Cell, memory_cell
from tests.support.runners import environment

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

RULES = ChoiceRules(load_catalogue(None), bucket=4, patience=timedelta(seconds=30))
#: More than a test waits for.
MANY = 150


@asynccontextmanager
async def working(plane: Cell, folder: Path, cache_dir: Path) -> AsyncGenerator[RunnerHost]:
    """Have a worker that runs up to four tasks together; yield what holds its runner."""
    host = RunnerHost("cpu", environment=environment(folder, cache_dir=cache_dir))
    worker = LedgerWorker(
        Attempts(plane.writer, plane.log, plane.catalog, worker="w", lease=LEASE),
        plane.store,
        plane.registry,
        catalog=plane.catalog,
        shape=Shape(
            queues={ResourceClass.DEVICE: ("gpu",)},
            slots={ResourceClass.DEVICE: Slots(1)},
            hosts={ResourceClass.DEVICE: [host]},
            device="cpu",
            memory_limit_bytes=None,
            drain_timeout=timedelta(0),
            choice=RULES,
        ),
        clock=LedgerClock(datetime(2030, 1, 1, tzinfo=UTC)),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        yield host
    finally:
        stop.set()
        await running


async def submitted(plane: Cell, *, number: int, **fields: object) -> Task:
    asked = GenerateImageInput(prompt=f"{number} foxes", seed=number, **fields)  # pyright: ignore[reportArgumentType]  # each test gives what fits
    spec = TaskSpec(generate_image=asked).SerializeToString(deterministic=True)
    return await plane.ledger.submit(OWNER, SubmitCommand(spec=spec, task_type="generate_image"))


def output_of(task: Task) -> GenerateImageOutput:
    output = GenerateImageOutput()
    assert task.state is TaskState.SUCCEEDED, task.failure
    assert AnyMessage.FromString(task.output).Unpack(output)
    return output


async def is_under_way(plane: Cell, task: Task) -> bool:
    kept = await plane.ledger.get(OWNER, task.id)
    return kept.progress is not None and kept.progress.current > 0


async def has_told(plane: Cell, *, batched: int, overtaken: int) -> bool:
    (worker,) = await live_workers(plane.registry)
    return (worker.batched_tasks, worker.overtaken_tasks) == (batched, overtaken)


@pytest.mark.timeout(300)  # two runners start, each with its libraries
async def test_tasks_run_together_and_end_each_by_itself(tmp_path: Path, cache_dir: Path) -> None:
    plane, store = memory_cell(), ArtifactStore((tmp_path / "artifacts").as_uri())
    # Given tasks that wait, of which three have enough in common
    waiting = [await submitted(plane, number=number) for number in range(3)]
    other = await submitted(plane, number=3, steps=3)
    async with working(plane, tmp_path, cache_dir) as host:
        done = [await plane.final(task.id) for task in [*waiting, other]]
        # Then those three shared their passes, and the other one had its own
        outputs = [output_of(task) for task in done]
        assert [output.bucket for output in outputs] == [3, 3, 3, 1]
        # Each has an image of its own, and paid a part of what the device did
        pictures = {store.get(output.images[0].key) for output in outputs}
        assert len(pictures) == 4
        for content in pictures:
            with Image.open(io.BytesIO(content)) as picture:
                assert picture.size == (outputs[0].width, outputs[0].height)
        for task in done[:3]:
            held = task.usage.model_load_seconds + task.usage.run_seconds
            assert task.usage.gpu_seconds == pytest.approx(held / 3)

        # When one of two that run together is cancelled
        one, two = [await submitted(plane, number=number, steps=MANY) for number in (4, 5)]
        await eventually(lambda: is_under_way(plane, two))
        await plane.ledger.cancel(OWNER, one.id, reason="changed my mind")
        assert (await plane.final(one.id)).state is TaskState.CANCELLED
        # Then the other one goes on
        assert not (await plane.writer.read(two.id)).is_final

        # When their runner is killed
        assert host.pid is not None
        os.kill(host.pid, signal.SIGKILL)
        # Then it is tried again, alone
        two = await plane.until(two.id, lambda task: task.attempt == 2)
        facts = [
            event_of(parse_event(fact))
            for fact in await plane.store.facts(two.id, after=0, limit=100)
        ]
        # and nobody can tell by whose fault the first attempt ended: it does not count
        assert sum(isinstance(event, AttemptReturned) for event in facts) == 1
        assert sum(isinstance(event, AttemptStarted) for event in facts) == 2
        assert two.failures == 0
        await plane.ledger.cancel(OWNER, two.id, reason="that is enough")
        await plane.final(two.id)
        await eventually(lambda: has_told(plane, batched=5, overtaken=0))
