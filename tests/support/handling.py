"""Handlers without a runner: a TaskContext that keeps what it is told, on a real artifact store."""

import hashlib
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from callsheet.artifacts.store import ArtifactStore
from callsheet.media.fetching import ProjectFiles
from callsheet.media.limits import MediaLimits
from callsheet.media.reader import MediaReader
from callsheet.runner.context import TaskContext, TaskStopped
from callsheet.runner.rendering import LoadedPipeline, Mode, RenderControls, Words, step_of
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.v1.task_pb2 import ProgressPhase
from tests.support.rendering import Controls

PROJECT = "film"


class HandlerContext:
    """What a handler sees of its attempt; it stops after a number of checks, if it is to."""

    attempt, project, device = 1, PROJECT, "cpu"
    knowledge, similar_tasks = (), ()

    def __init__(
        self,
        folder: Path,
        *,
        limits: MediaLimits | None = None,
        pipeline: LoadedPipeline | None = None,
        reports: int = 1_000_000,
    ) -> None:
        self.task_id = str(uuid4())
        self.folder = folder
        self.store = ArtifactStore((folder / "store").as_uri())
        self.media_limits = limits or MediaLimits()
        self.reports: list[tuple[int, int, str]] = []
        self.phases: list[ProgressPhase.ValueType] = []
        self.asked: list[tuple[str, Mode | None]] = []
        self.previews: list[int] = []
        self._pipeline = pipeline
        self._most_reports = reports

    @property
    def scratch(self) -> Path:
        """A folder of the test."""
        return self.folder / "scratch"

    def report(self, current: int, total: int, message: str = "") -> None:
        """Remember the report."""
        self.check()
        self.reports.append((current, total, message))

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Remember the phase."""
        self.phases.append(phase)

    def check(self) -> None:
        """Stop after the number of reports."""
        if len(self.reports) >= self._most_reports:
            raise TaskStopped

    def wait(self, duration: timedelta) -> None:
        """Wait for nothing."""

    def pipeline(self, model_name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the test's pipeline."""
        self.asked.append((model_name, mode))
        if self._pipeline is None:
            raise AssertionError("the test has no pipeline")
        return self._pipeline

    def controls(self, *, words: Words = step_of, preview_every_steps: int = 0) -> RenderControls:
        """Return controls that report the steps, and stop as the context does."""
        self.previews.append(preview_every_steps)
        return ReportingControls(self, words)

    def open_media(self) -> MediaReader:
        """Return a real reader of the store's files."""
        files = ProjectFiles(self.store, self.project)
        return MediaReader(
            files.fetch, limits=self.media_limits, check=self.check, folder=self.scratch
        )

    def put(
        self,
        content: bytes | Path,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Store it."""
        self.check()
        stored = self.store.put(
            content,
            project=self.project,
            task_id=self.task_id,
            attempt=self.attempt,
            media_type=media_type,
            suffix=suffix,
        )
        return Artifact(
            uri=stored.uri,
            key=stored.key,
            sha256=stored.sha256,
            media_type=media_type,
            size_bytes=stored.size,
            width=width,
            height=height,
        )

    def upload(self, content: bytes, *, suffix: str, project: str = PROJECT) -> MediaReference:
        """Return the reference to a file that a client brought."""
        path = self.folder / "brought"
        path.write_bytes(content)
        stored = self.store.put_upload(
            path,
            project=project,
            sha256=hashlib.sha256(content).hexdigest(),
            media_type="application/octet-stream",
            suffix=suffix,
        )
        return MediaReference(uri=stored.uri)

    def content(self, artifact: Artifact) -> bytes:
        """Return the bytes of an artifact."""
        return self.store.get(artifact.key)

    def stored_keys(self) -> list[str]:
        """Return what the task has stored."""
        return self.store.list_keys(self.project, self.task_id)


class ReportingControls(Controls):
    """RenderControls that report to a context."""

    def __init__(self, context: HandlerContext, words: Words) -> None:
        super().__init__()
        self._context = context
        self._words = words

    def check(self) -> None:
        """Stop when the context does."""
        self._context.check()

    def on_step(self, step: int, of: int) -> None:
        """Report the step in the words of the handler."""
        super().on_step(step, of)
        self._context.report(step, of, self._words(step, of))

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Pass it on."""
        self._context.enter(phase)


def is_context(context: TaskContext) -> TaskContext:
    """Let the type checker see that the tests' context is one."""
    return context
