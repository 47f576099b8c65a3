"""Attempts as the runner has them, without a worker: their frames are made and thrown away."""

import threading
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import FromRunner, RunAttempt
from callsheet.media.limits import MediaLimits
from callsheet.runner.attempt import AttemptContext
from callsheet.runner.frames import encode
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.uploads import Uploads
from callsheet.runner.usage import UsageMeter
from callsheet.runtime.catalogue_file import load_catalogue

_PROJECT: Final = "bench"


class Attempts:
    """Opens one attempt after the other, each of a task of its own, on a store in a folder."""

    def __init__(self, folder: Path, *, device: str, checkpoint_period: timedelta) -> None:
        self._folder = folder
        self._device = device
        self._checkpoint_period = checkpoint_period
        self._artifacts = ArtifactStore((folder / "artifacts").as_uri())
        # The runner's own measure of memory; nothing is loaded through it.
        self._pipelines = Pipelines(
            load_catalogue(None), device=device, cache_dir=folder / "cache", most_host_bytes=0
        )
        self._uploads = Uploads()
        self.frame_bytes = 0
        self.checkpoints = 0
        self.previews = 0

    @contextmanager
    def opened(self) -> Generator[AttemptContext]:
        """Have an attempt, which succeeds."""
        context = AttemptContext(
            RunAttempt(
                task_id=str(uuid.uuid4()), attempt=1, project=_PROJECT, task_type="generate_image"
            ),
            device=self._device,
            stop=threading.Event(),
            send=self._send,
            pipelines=self._pipelines,
            artifacts=self._artifacts,
            uploads=self._uploads,
            checkpoint_period=self._checkpoint_period,
            meter=UsageMeter(self._pipelines, holds_device=True),
            scratch=self._folder,
            limits=MediaLimits(),
        )
        yield context
        context.close(succeeded=True)

    def settle(self) -> None:
        """Return when all that was to be stored is. Raises TimeoutError."""
        if not self._uploads.finish(within=timedelta(minutes=1)):
            raise TimeoutError("the artifacts are not stored within a minute")

    def _send(self, frame: FromRunner) -> None:
        self.frame_bytes += len(encode(frame))
        self.checkpoints += frame.HasField("checkpoint")
        self.previews += frame.progress.progress.HasField("preview")
