"""Work that is killed goes on where it was, and its result is the same to the last bit."""

import asyncio
import io
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from PIL import Image
from redis.asyncio import Redis

from callsheet.artifacts.references import artifacts_in
from callsheet.artifacts.store import ArtifactStore
from callsheet.broker.slots import Slots
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.attempts import Attempts
from callsheet.ledger.catalog import ResourceClass
from callsheet.ledger.codec import event_of, parse_event
from callsheet.ledger.events import AttemptFailed, CheckpointSaved
from callsheet.ledger.model import Failure, FailureReason, Task, TaskState
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runtime.families import Family
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.ledger_clock import LedgerClock
from callsheet.worker.runner_host import RunnerHost
from callsheet.worker.worker import LedgerWorker, Shape
from tests.support.ledgers import LEASE, OWNER, Cell, memory_cell, redis_cell
from tests.support.processes import room
from tests.support.rendering import MODES, STEPS, Controls, built_in, contents, request_of, warm
from tests.support.runners import ALONE, environment

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

RENDERING: Final = (
    sys.executable,
    str(Path(__file__).parents[1] / "support" / "rendering_runner.py"),
)
#: A state is saved behind every step.
ALWAYS: Final = {"CALLSHEET_CHECKPOINT_SECONDS": "0.000001"}
#: More than a test waits for: the worker is killed long before.
MANY: Final = 150


def command(spec: TaskSpec) -> SubmitCommand:
    return SubmitCommand(
        spec=spec.SerializeToString(deterministic=True), task_type=spec.WhichOneof("input") or ""
    )


@asynccontextmanager
async def working(plane: Cell, folder: Path, cache_dir: Path) -> AsyncGenerator[None]:
    """Have a worker whose runner dies once in every task."""
    host = RunnerHost(
        "cpu",
        command=RENDERING,
        environment=environment(folder, cache_dir=cache_dir, **ALWAYS),
    )
    shape = Shape(
        queues={ResourceClass.DEVICE: ("gpu",)},
        slots={ResourceClass.DEVICE: Slots(1)},
        hosts={ResourceClass.DEVICE: [host]},
        device="cpu",
        memory_limit_bytes=None,
        drain_timeout=timedelta(0),
        choice=ALONE,
    )
    worker = LedgerWorker(
        Attempts(plane.writer, plane.log, plane.catalog, worker="w", lease=LEASE),
        plane.store,
        plane.registry,
        catalog=plane.catalog,
        shape=shape,
        clock=LedgerClock(datetime(2030, 1, 1, tzinfo=UTC)),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


def artifact_of(task: Task) -> Artifact:
    """Return the only artifact of the task's output."""
    (artifact,) = artifacts_in(AnyMessage.FromString(task.output))
    return artifact


async def facts(plane: Cell, task: Task) -> list[object]:
    stored = await plane.store.facts(task.id, after=0, limit=1000)
    return [event_of(parse_event(fact)) for fact in stored]


@pytest.mark.timeout(300)  # four runners start, each with its libraries
async def test_an_image_a_video_and_sound_survive_a_killed_runner(
    tmp_path: Path, cache_dir: Path
) -> None:
    families = (Family.SDXL, Family.WAN, Family.STABLE_AUDIO)
    plane, store = memory_cell(), ArtifactStore((tmp_path / "artifacts").as_uri())
    async with working(plane, tmp_path, cache_dir):
        specs = [
            TaskSpec(generate_video=GenerateVideoInput(model=built_in(family).name))
            for family in families
        ]
        tasks = [await plane.ledger.submit(OWNER, command(spec)) for spec in specs]
        done = [await plane.until(task.id, lambda task: task.is_final) for task in tasks]
    for family, task in zip(families, done, strict=True):
        # The first attempt was killed behind its second step
        assert (task.state, task.attempt, task.checkpoint) == (TaskState.SUCCEEDED, 2, None)
        events = await facts(plane, task)
        (died,) = (event for event in events if isinstance(event, AttemptFailed))
        assert died.failure.reason is FailureReason.WORKER_LOST
        saved = [
            (event.attempt, event.checkpoint.step)
            for event in events
            if isinstance(event, CheckpointSaved)
        ]
        assert max(step for attempt, step in saved if attempt == 1) == 2
        # The second one went on behind it: it had nothing to save of the steps before
        assert all(step > 2 for attempt, step in saved if attempt == 2)
        assert await plane.folded(task.id) == task
        # And the result is that of work without a pause
        whole = warm(family, cache_dir=cache_dir).render(
            request_of(family, MODES[family]), Controls()
        )
        artifact = artifact_of(task)
        assert store.get(artifact.key) == contents(whole)[0]
        # Nothing else is left of it
        assert store.list_keys("default", task.id) == [artifact.key]
    assert request_of(Family.SDXL, MODES[Family.SDXL]).steps == STEPS > 2


@pytest.mark.timeout(300)  # two workers start, each with its runner
async def test_an_image_survives_a_killed_worker(
    redis: Redis, cell: str, valkey_server: EmbeddedValkey, tmp_path: Path, cache_dir: Path
) -> None:
    plane = redis_cell(RedisConnection(redis, patience=timedelta(seconds=30)), cell)
    variables = {
        **environment(tmp_path, cache_dir=cache_dir, **ALWAYS),
        "REDIS_URL": valkey_server.url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_WORKER_QUEUES": "gpu",
    }
    asked = GenerateImageInput(prompt="a fox", seed=7, steps=MANY)
    task = await plane.ledger.submit(OWNER, command(TaskSpec(generate_image=asked)))
    with room("worker", variables) as worker:
        saved = await plane.until(task.id, lambda task: task.checkpoint is not None)
        worker.kill()
    # Its lease runs out
    task = await plane.writer.read(task.id)
    assert (task.state, task.attempt) == (TaskState.RUNNING, 1)
    lost = Failure(FailureReason.WORKER_LOST, "it did not renew its lease")
    task = await plane.attempts().fail(task, attempt=1, failure=lost)
    assert task.resumes_from is not None
    assert saved.checkpoint is not None
    assert task.resumes_from.step >= saved.checkpoint.step
    # And another worker takes the task up
    with room("worker", variables):
        done = await plane.final(task.id)
    assert (done.state, done.attempt) == (TaskState.SUCCEEDED, 2)
    again = [
        event.checkpoint.step
        for event in await facts(plane, done)
        if isinstance(event, CheckpointSaved) and event.attempt == 2
    ]
    assert not again or min(again) > task.resumes_from.step
    image_file = next(iter(artifacts_in(AnyMessage.FromString(done.output))))
    store = ArtifactStore((tmp_path / "artifacts").as_uri())
    with Image.open(io.BytesIO(store.get(image_file.key))) as image:
        assert image.tobytes() == whole_image(cache_dir)


def whole_image(cache_dir: Path) -> bytes:
    """Return the pixels of the same image, drawn without a pause."""
    model = built_in(Family.SDXL)
    request = RenderRequest(
        mode=Mode.TEXT_TO_IMAGE,
        items=(RenderItem("a fox", seed=7),),
        width=model.default_width,
        height=model.default_height,
        steps=MANY,
        guidance_scale=model.default_guidance_scale,
    )
    return contents(warm(Family.SDXL, cache_dir=cache_dir).render(request, Controls()))[0]
