"""A real worker asks a brain in another process."""

import asyncio
import os
from pathlib import Path

from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.model import FailureReason
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.brains import TOKEN, SmallBrainProcess, client_of, connected
from tests.support.ledgers import OWNER, redis_cell
from tests.support.processes import room


async def test_a_task_tells_what_the_brain_knew_when_its_attempt_started(
    valkey_server: EmbeddedValkey, redis: Redis, cell: str, tmp_path: Path
) -> None:
    """Of a model that is in no catalogue, so that nothing of torch is waited for."""
    folder = tmp_path / "brain"
    folder.mkdir()
    process = SmallBrainProcess(folder, token=TOKEN)
    await process.start()
    try:
        async with client_of(process.url) as brain:
            await connected(brain)
            await brain.store_knowledge("default", source="bible", text="the fox is red")
        environment = {
            "REDIS_URL": valkey_server.url,
            "CALLSHEET_CELL": cell,
            "CALLSHEET_STATE_DIR": str(tmp_path),
            "CALLSHEET_DEVICE": "cpu",
            "CALLSHEET_WORKER_QUEUES": "gpu",
            "CALLSHEET_CONTEXT_BUDGET_SECONDS": "10",
            "BRAIN_WS_URL": process.url,
            "CALLSHEET_BRAIN_TOKEN": TOKEN,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        plane = redis_cell(RedisConnection(redis), cell)
        spec = TaskSpec(generate_image=GenerateImageInput(prompt="a fox", model="nowhere"))
        command = SubmitCommand(spec.SerializeToString(), "generate_image")
        with room("worker", environment):
            # It takes work before its brain answers: the first tasks may know nothing.
            async with asyncio.timeout(60):
                task = await plane.final((await plane.ledger.submit(OWNER, command)).id)
                while task.context is None:
                    task = await plane.final((await plane.ledger.submit(OWNER, command)).id)
    finally:
        process.kill()
    assert task.failure is not None
    assert task.failure.reason is FailureReason.MODEL_NOT_FOUND
    assert task.context is not None
    assert [known.text for known in task.context.knowledge] == ["the fox is red"]
    assert await plane.folded(task.id) == task
