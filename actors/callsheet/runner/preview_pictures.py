"""The small pictures that an attempt shows on the way: made, stored and told beside inference."""

import io
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import RunAttempt
from callsheet.runner.rendering import Pixels
from callsheet.runner.uploads import OwnUploads, Uploads
from callsheet.tasks.v1.artifact_pb2 import Artifact

MEDIA_TYPE: Final = "image/webp"
SUFFIX: Final = "webp"
#: The longer side, in pixels.
SIDE: Final = 256

_KIND: Final = "preview"
_QUALITY: Final = 60
#: Of a batch, so many are shown, in a square.
_MOST: Final = 9
#: Previews that are kept: whoever was just told of one may still fetch it.
_KEPT: Final = 2


class AttemptPreviews:
    """Stores the newest preview of an attempt; *tell* is told of each, in another thread."""

    def __init__(
        self,
        run: RunAttempt,
        *,
        artifacts: ArtifactStore,
        uploads: Uploads | OwnUploads,
        tell: Callable[[Artifact], None],
    ) -> None:
        self._run = run
        self._artifacts = artifacts
        self._uploads = uploads
        self._tell = tell
        self._keys: deque[str] = deque()
        self._is_over = False
        self._telling = threading.Lock()

    def sink(self, every_steps: int) -> "StepPreviews":
        """Return the PreviewSink that takes a picture after so many steps each."""
        return StepPreviews(self, every_steps)

    def show(self, pictures: Sequence[Pixels]) -> None:
        """Show pictures instead of those before them."""
        self._uploads.put(_KIND, lambda: self._store(pictures))

    def close(self) -> None:
        """Show nothing any more, and delete what was shown: there is a result now, or none."""
        with self._telling:
            self._is_over = True
        self._uploads.put(_KIND, self._delete_all)

    def _store(self, pictures: Sequence[Pixels]) -> None:
        if self._is_over:
            return
        content, width, height = webp_of(pictures)
        run = self._run
        stored = self._artifacts.put(
            content,
            project=run.project,
            task_id=run.task_id,
            attempt=run.attempt,
            media_type=MEDIA_TYPE,
            suffix=SUFFIX,
        )
        if stored.key not in self._keys:
            self._keys.append(stored.key)
        preview = Artifact(
            uri=stored.uri,
            key=stored.key,
            sha256=stored.sha256,
            media_type=MEDIA_TYPE,
            size_bytes=stored.size,
            width=width,
            height=height,
        )
        with self._telling:
            if self._is_over:
                return
            self._tell(preview)
        while len(self._keys) > _KEPT:
            self._artifacts.delete_keys(run.project, run.task_id, [self._keys.popleft()])

    def _delete_all(self) -> None:
        if self._keys:
            self._artifacts.delete_keys(self._run.project, self._run.task_id, [*self._keys])
            self._keys.clear()


class StepPreviews:
    """Takes a picture after so many steps each: a PreviewSink."""

    def __init__(self, previews: AttemptPreviews, every_steps: int) -> None:
        self._previews = previews
        self._every_steps = every_steps

    @property
    def every_steps(self) -> int:
        """After how many steps a picture is wanted."""
        return self._every_steps

    def show(self, pictures: tuple[Pixels, ...], *, step: int, of: int) -> None:
        """Take pictures; the newest count."""
        self._previews.show(pictures)


def webp_of(pictures: Sequence[Pixels]) -> tuple[bytes, int, int]:
    """Return pictures of one size as one WebP, in a square when there are several, and its size."""
    from PIL import Image
    from PIL.Image import Resampling

    shown = [Image.fromarray(picture) for picture in pictures[:_MOST]]
    width, height = shown[0].size
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    whole = Image.new("RGB", (columns * width, rows * height))
    for number, picture in enumerate(shown):
        whole.paste(picture, (number % columns * width, number // columns * height))
    scale = SIDE / max(whole.size)
    whole = whole.resize(
        (max(1, round(whole.width * scale)), max(1, round(whole.height * scale))),
        Resampling.BICUBIC,
    )
    content = io.BytesIO()
    whole.save(content, "WEBP", quality=_QUALITY)
    return content.getvalue(), whole.width, whole.height
