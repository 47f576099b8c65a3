"""Tasks that made pictures, without a worker: their artifacts are in the gateway's store."""

from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.artifacts.store import StoredArtifact
from callsheet.ledger.model import Usage
from callsheet.runtime.artifacts import artifact_store
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from tests.support.gateways import RunningGateway
from tests.support.work import started

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@dataclass(frozen=True)
class Picture:
    """A picture that a task made."""

    task_id: str
    stored: StoredArtifact
    content: bytes

    @property
    def name(self) -> str:
        """Its name within the task."""
        return self.stored.key.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Where the gateway serves it."""
        return f"/api/v1/tasks/{self.task_id}/artifacts/{self.name}"


async def picture(
    gateway: RunningGateway,
    content: bytes = PNG,
    *,
    media_type: str = "image/png",
    suffix: str = "png",
) -> Picture:
    """Return a picture of a new task that has succeeded."""
    task_id = await gateway.submit("generate_image", prompt="a lighthouse")
    attempts, task = await started(gateway.plane.cell, task_id)
    stored = artifact_store(gateway.settings).put(
        content,
        project="default",
        task_id=task_id,
        attempt=task.attempt,
        media_type=media_type,
        suffix=suffix,
    )
    output = GenerateImageOutput(seed=7, width=64, height=64)
    output.images.add(
        uri=stored.uri,
        key=stored.key,
        sha256=stored.sha256,
        media_type=media_type,
        size_bytes=stored.size,
        width=64,
        height=64,
    )
    packed = AnyMessage()
    packed.Pack(output)
    await attempts.succeed(
        task, attempt=task.attempt, output=packed.SerializeToString(), usage=Usage()
    )
    return Picture(task_id, stored, content)
