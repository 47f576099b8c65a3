"""Tasks that end with artifacts, and what becomes of their media."""

import io
import secrets
from collections.abc import Sequence

from PIL import Image

from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger.model import Task
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from tests.support.sidecars import WebhookCell


def picture(*, colour: int | None = None) -> bytes:
    """Return a small real PNG; without a colour one that nobody has seen before."""
    shade = secrets.randbelow(2**24) if colour is None else colour
    content = io.BytesIO()
    image = Image.new("RGB", (8, 8), (shade >> 16, shade >> 8 & 255, shade & 255))
    image.putpixel((0, 0), (secrets.randbelow(256) if colour is None else 0, 1, 2))
    image.save(content, "PNG")
    return content.getvalue()


def stored(store: ArtifactStore, task: Task, content: bytes) -> Artifact:
    """Store bytes as an artifact of the task's first attempt."""
    kept = store.put(
        content,
        project=task.submission.project,
        task_id=task.id,
        attempt=1,
        media_type="image/png",
        suffix="png",
    )
    return Artifact(
        uri=kept.uri,
        key=kept.key,
        sha256=kept.sha256,
        media_type="image/png",
        size_bytes=kept.size,
    )


async def filmed(
    cell: WebhookCell,
    store: ArtifactStore,
    *,
    url: str = "",
    pictures: Sequence[bytes] = (),
) -> Task:
    """Return a task that ended with the pictures, by default a new one; webhooks go to the URL."""
    task = await cell.submitted(url)
    images = [stored(store, task, content) for content in pictures or (picture(),)]
    return await cell.ended(task, output=GenerateImageOutput(images=images))


async def with_media(cell: WebhookCell, task: Task) -> Task:
    """Return the task once its media are noted."""
    return await cell.plane.until(task.id, lambda task: bool(task.media))
