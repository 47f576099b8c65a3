"""Submissions that allow reuse, and what workers make of them."""

from datetime import timedelta

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.ledger.acceptance import Accepted, Outcome, ReuseWish, SubmitCommand
from callsheet.ledger.model import Failure, FailureReason, Quality, Task, Usage
from callsheet.runtime.models import TINY_RANDOM
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.ledgers import OWNER, Cell
from tests.support.work import started

SCORE = Quality("image-focus-exposure-1", 0.5, {"sharpness": 0.5})


def image(
    digest: str = "aa", *, joins: bool = False, max_age: timedelta | None = None, **changes: object
) -> SubmitCommand:
    """Return a command that submits an image and may be answered by an equal one."""
    spec = TaskSpec(generate_image=GenerateImageInput(prompt=digest, seed=7))
    command = SubmitCommand(
        spec=spec.SerializeToString(deterministic=True),
        task_type="generate_image",
        reuse=ReuseWish(digest, joins=joins, max_age=max_age),
    )
    return command._replace(**changes)


def drawn(key: str, *, model: str = TINY_RANDOM, revision: str = "") -> bytes:
    """Return the output of a task that drew one image of that key, with that model."""
    packed = AnyMessage()
    images = [Artifact(key=key, uri=f"file:///{key}")]
    packed.Pack(GenerateImageOutput(seed=7, images=images, model=model, model_revision=revision))
    return packed.SerializeToString(deterministic=True)


async def accept(plane: Cell, command: SubmitCommand) -> Accepted:
    """Submit, and tell how it was answered."""
    return await plane.ledger.accept(OWNER, command)


async def made(plane: Cell, command: SubmitCommand) -> Task:
    """Submit what nothing answers."""
    task, outcome = await accept(plane, command)
    assert outcome is Outcome.CREATED
    return task


async def succeed(
    cell: Cell, task_id: str, *, model: str = TINY_RANDOM, revision: str = ""
) -> Task:
    """Have a worker draw the image of a task that waits."""
    attempts, task = await started(cell, task_id)
    output = drawn(f"{task_id}.png", model=model, revision=revision)
    usage = Usage(gpu_seconds=4)
    return await attempts.succeed(task, attempt=1, output=output, usage=usage, quality=SCORE)


async def fail(cell: Cell, task_id: str) -> Task:
    """Have a worker fail a task for good."""
    attempts, task = await started(cell, task_id)
    failure = Failure(FailureReason.INVALID_INPUT, "cannot be drawn")
    return await attempts.fail(task, attempt=1, failure=failure)
