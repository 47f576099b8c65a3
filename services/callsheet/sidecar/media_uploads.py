"""Uploads of artifacts: from their store to PayloadCMS, each only where it is not there yet."""

import asyncio
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import IO, Final, NamedTuple

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactStoreError
from callsheet.artifacts.keys import fits, project_folder
from callsheet.artifacts.references import media_in, unpacked
from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.model import RegisteredMedia, Task
from callsheet.payload.answers import MediaDocument
from callsheet.payload.client import MediaUpload, PayloadClient, upload_time
from callsheet.payload.errors import PayloadError, PayloadUnavailable
from callsheet.tasks.v1.artifact_pb2 import Artifact

#: What is larger is kept on disk on its way.
_IN_MEMORY: Final = 8 * 2**20


class Trouble(NamedTuple):
    """Why not everything is registered.

    *is_passing*: it may be over in a minute. *is_away*: PayloadCMS itself is in trouble.
    *is_busy*: the same bytes are being uploaded just now. *retry_after*: what was asked for.
    """

    reason: str
    is_passing: bool = False
    is_away: bool = False
    is_busy: bool = False
    retry_after: timedelta | None = None


_BUSY: Final = Trouble("the same bytes are being uploaded just now", is_passing=True, is_busy=True)


class Registration(NamedTuple):
    """What more of a task's artifacts is registered, in their order, and why the rest is not."""

    media: tuple[RegisteredMedia, ...]
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class UploadTerms:
    """What bounds uploads.

    *lock* outlasts the upload of a small artifact; of a larger one it is longer by the time that
    its bytes may take. *settling* is how long PayloadCMS may still be at an upload that it got and
    did not answer: until then only searches are made. *largest* is the most bytes of an artifact
    that is uploaded.
    """

    lock: timedelta
    settling: timedelta
    largest: int


class ArtifactRefused(Exception):
    """The artifact cannot be what its task says; the message says why."""


class MediaUploads:
    """Registers the artifacts of tasks."""

    def __init__(
        self,
        artifacts: ArtifactStore,
        payload: PayloadClient,
        work: MediaWork,
        *,
        terms: UploadTerms,
    ) -> None:
        self._artifacts = artifacts
        self._payload = payload
        self._work = work
        self._terms = terms

    async def register(self, task: Task) -> Registration:
        """Register the artifacts of a task that are not noted yet; raises LedgerError only.

        One that is refused does not keep out the others; PayloadCMS being away does.
        """
        try:
            found = list(media_in(unpacked(task.output))) if task.output else []
        except ValueError as error:
            return Registration((), Trouble(str(error)))
        media: list[RegisteredMedia] = []
        trouble: Trouble | None = None
        noted = {each.uri for each in task.media}
        for artifact in found:
            if artifact.uri in noted:
                continue
            told = await self._try(task, artifact)
            if isinstance(told, RegisteredMedia):
                media.append(told)
                continue
            trouble = trouble or told
            if told.is_away or told.is_busy:
                break
        return Registration(tuple(media), trouble)

    async def _try(self, task: Task, artifact: Artifact) -> RegisteredMedia | Trouble:
        try:
            return await self._register(task, artifact)
        except PayloadError as error:
            retry_after = error.retry_after if isinstance(error, PayloadUnavailable) else None
            return Trouble(
                error.message,
                is_passing=error.is_passing,
                is_away=isinstance(error, PayloadUnavailable) and error.is_away,
                retry_after=retry_after,
            )
        except ArtifactStoreError as error:
            return Trouble(error.message, is_passing=not isinstance(error, ArtifactNotFound))
        except ArtifactRefused as error:
            return Trouble(str(error))
        except OSError as error:
            return Trouble(f"{artifact.key} could not be kept on its way: {error}", is_passing=True)

    async def _register(self, task: Task, artifact: Artifact) -> RegisteredMedia | Trouble:
        project = task.submission.project
        self._check(project, artifact)
        # Of the project: nothing of another one's is ever found, whatever its bytes.
        source_hash = f"{project}:sha256:{artifact.sha256}"
        document = await self._payload.find_media(source_hash)
        if document is None:
            if await self._work.is_locked(source_hash, task.id):
                return _BUSY  # before anything is fetched in vain
            document = await self._upload(task, artifact, source_hash)
        return _BUSY if document is None else RegisteredMedia(artifact.uri, document.id)

    async def _upload(
        self, task: Task, artifact: Artifact, source_hash: str
    ) -> MediaDocument | None:
        """Return the document; None: the same bytes are being uploaded just now."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            await self._fetch(artifact, file)
            upload = MediaUpload(
                file=file,
                filename=f"{task.id}-{PurePosixPath(artifact.key).name}",
                media_type=artifact.media_type,
                source_hash=source_hash,
                fields={
                    "alt": f"{task.submission.task_type} {task.id}",
                    "project": task.submission.project,
                    "taskId": task.id,
                    "sourceUrl": artifact.uri,
                },
            )
            return await self._locked(task, upload, size=file.tell())

    async def _locked(self, task: Task, upload: MediaUpload, *, size: int) -> MediaDocument | None:
        """Upload alone: the same bytes at once would leave a file without a document behind."""
        name, growth = upload.source_hash, upload_time(size)
        # Taken after the fetch, however long that was, so that it outlasts the upload.
        if not await self._work.lock(name, task.id, duration=self._terms.lock + growth):
            return None
        try:
            document = await self._payload.register_media(upload)
        except PayloadError as error:
            if isinstance(error, PayloadUnavailable) and error.is_open:
                # A second upload beside this one would leave a file behind as well.
                await self._work.seal(name, task.id, duration=self._terms.settling + growth)
            else:
                await self._work.unlock(name, task.id)
            raise
        await self._work.unlock(name, task.id)
        return document

    async def _fetch(self, artifact: Artifact, file: IO[bytes]) -> None:
        digest = await asyncio.to_thread(
            self._artifacts.fetch, artifact.key, file, limit=self._terms.largest
        )
        if digest != artifact.sha256:
            raise ArtifactRefused(f"{artifact.key} has other bytes than its task made")

    def _check(self, project: str, artifact: Artifact) -> None:
        is_theirs = artifact.key.startswith(f"{project_folder(project)}/")
        if not fits("key", artifact.key) or not is_theirs:
            raise ArtifactRefused(f"{artifact.key[:200]!r} is no artifact of the project {project}")
        if artifact.size_bytes > self._terms.largest:
            raise ArtifactRefused(
                f"{artifact.key} has {artifact.size_bytes} bytes, more than the"
                f" {self._terms.largest} of CALLSHEET_PAYLOAD_LARGEST_BYTES"
            )
