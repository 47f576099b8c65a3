"""Brain sinks for tests, in this process, on a real Redis and a small real brain."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.any_pb2 import Any as AnyMessage
from redis.asyncio import Redis

from callsheet.ledger.graph_progress import GraphProgress
from callsheet.ledger.ledger import SubmitCommand
from callsheet.ledger.model import Failure, FailureReason, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Candidate
from callsheet.sidecar.brain_sink import BrainSink
from callsheet.sidecar.brain_source import FactSource
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.brains import SmallBrainProcess, client_of
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, Cell, redis_cell

HOLD = timedelta(seconds=1)


@dataclass(frozen=True)
class GraphCell:
    """A cell in Redis, and how far its brain was told."""

    plane: Cell
    progress: GraphProgress

    async def caught_up(self) -> None:
        """Wait until the cursor stands at the log's end, and no gap is left."""

        async def is_at_end() -> bool:
            reached = await self.progress.read()
            return reached.position == await self.plane.log.end() and reached.gap is None

        await eventually(is_at_end)

    async def submitted(self, prompt: str) -> Task:
        """Return a task that asks for an image."""
        return await self.plane.ledger.submit(OWNER, image(prompt))

    async def started(self, task: Task) -> Task:
        """Return the task with its next attempt running."""
        claims = await self.plane.attempts().claim(
            count=1, queues=("gpu",), candidates=[Candidate(0, task.id)], device="cuda:0"
        )
        return claims.tasks[0]

    async def failing(self, task: Task) -> Task:
        """Return the task after an attempt that failed and will be followed by another."""
        running = await self.started(task)
        failure = Failure(FailureReason.OUT_OF_MEMORY, "no room for it", retryable=True)
        return await self.plane.attempts().fail(running, attempt=running.attempt, failure=failure)

    async def succeeded(self, prompt: str) -> Task:
        """Return a task that ended with one image."""
        running = await self.started(await self.submitted(prompt))
        return await self.plane.attempts().succeed(
            running, attempt=1, output=output(), usage=Usage(run_seconds=1.5, tokens=7)
        )

    async def cancelled(self, prompt: str) -> Task:
        """Return a task that was stopped before it began."""
        task = await self.submitted(prompt)
        return await self.plane.ledger.cancel(OWNER, task.id, reason="enough")


def graph_cell(redis: Redis, name: str) -> GraphCell:
    """Return the cell of that name."""
    connection = RedisConnection(redis)
    plane = redis_cell(connection, name)
    return GraphCell(plane, GraphProgress(connection, plane.keys))


def image(prompt: str) -> SubmitCommand:
    """Return a command that asks for an image."""
    asked = GenerateImageInput(prompt=prompt, negative_prompt="blur", seed=7)
    spec = TaskSpec(generate_image=asked).SerializeToString(deterministic=True)
    return SubmitCommand(spec=spec, task_type="generate_image")


def output() -> bytes:
    """Return the output of one image."""
    artifact = Artifact(
        uri="https://media.example/a.png", sha256="0" * 64, media_type="image/png", size_bytes=9
    )
    made = GenerateImageOutput(
        images=[artifact], seed=7, model="tiny-random", model_revision="abc", steps=2
    )
    packed = AnyMessage()
    packed.Pack(made)
    return packed.SerializeToString(deterministic=True)


@asynccontextmanager
async def sink(
    cell: GraphCell, brain: SmallBrainProcess, *, holder: str = "sink-1"
) -> AsyncGenerator[BrainSink]:
    """Run a sink; at the end stop it and wait until it has."""
    stop = asyncio.Event()
    async with asyncio.timeout(90), client_of(brain.url) as client, asyncio.TaskGroup() as group:
        made = BrainSink(
            brain=client,
            log=cell.plane.log,
            source=FactSource(cell.plane.store, cell.plane.keys),
            progress=cell.progress,
            registry=cell.plane.registry,
            holder=holder,
            hold=HOLD,
            now=lambda: datetime.now(UTC),
        )
        group.create_task(made.run(stop))
        try:
            yield made
        finally:
            stop.set()
