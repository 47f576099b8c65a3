"""Where artifacts are kept: a local folder or an object store, behind one class."""

import hashlib
import os
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from callsheet.artifacts.access import S3Access
from callsheet.artifacts.errors import (
    ArtifactNotFound,
    ArtifactStoreError,
    ArtifactTooLarge,
    reason_of,
)
from callsheet.artifacts.folders import (
    LocalTaskFolders,
    ObjectTaskFolders,
    StoredUpload,
    TaskFolder,
    TaskFolders,
)
from callsheet.artifacts.keys import (
    artifact_key,
    require,
    require_readable,
    task_folder,
    upload_key,
)
from callsheet.artifacts.ownership import OWNER_KEY, StoreOwner, decoded_owner

#: What is larger is written in parts of this size, so many at a time: 32 MiB are held at most.
PART: Final = 8 * 2**20
_PARTS_AT_A_TIME: Final = 4
_READ: Final = 2**20
#: What a reader holds at a time.
_PIECE: Final = 2**18
#: The digest is in the key, so what stands under it never changes.
_CACHING: Final = "max-age=31536000, immutable"


@dataclass(frozen=True)
class StoredArtifact:
    """What the store says of bytes it has taken."""

    key: str
    uri: str
    sha256: str
    """64 lower-case hexadecimal digits."""
    size: int
    """In bytes."""


class ArtifactStore:
    """Keeps artifacts under `projects/<project>/tasks/<task>/<attempt>-<digest>.<suffix>`.

    The URL is any that obstore knows (`file://` with an absolute path, `s3://bucket/prefix`);
    nothing is touched before the first call. Every method raises ArtifactStoreError when the store
    refuses or fails.
    """

    def __init__(
        self, url: str, *, public_url: str | None = None, s3: S3Access | None = None
    ) -> None:
        self._url = url
        self._s3 = s3 or S3Access()
        self._public_url = (public_url or url).rstrip("/")
        self._root = _local_root(url)

    def put(
        self,
        content: bytes | Path,
        *,
        project: str,
        task_id: str,
        attempt: int,
        media_type: str,
        suffix: str,
    ) -> StoredArtifact:
        """Store the bytes, or the file's, and return their name; all are kept afterwards, or none.

        Putting the same bytes for the same attempt again changes nothing. What is larger than PART
        is written in parts.
        """
        with _translated("an artifact could not be stored"):
            sha256, size = _measured(content)
        key = artifact_key(project, task_id, attempt=attempt, sha256=sha256, suffix=suffix)
        return self._written(content, key, sha256, size, media_type=media_type)

    def get(self, key: str) -> bytes:
        """Return the bytes under the key; raises ArtifactNotFound when there are none."""
        require("key", key)
        with _translated("an artifact could not be read", key=key):
            return bytes(obstore.get(self._store, key).bytes())

    def put_upload(
        self, content: Path, *, project: str, sha256: str, media_type: str, suffix: str
    ) -> StoredArtifact:
        """Store a file that a client brought, whose digest is known; all of it is kept, or nothing.

        The same bytes of a project are one upload, which is then as new as its last time.
        """
        key = upload_key(project, sha256=sha256, suffix=suffix)
        return self._written(content, key, sha256, content.stat().st_size, media_type=media_type)

    async def size(self, key: str) -> int:
        """Return how many bytes stand under the key; raises ArtifactNotFound."""
        require_readable(key)
        with _translated("an artifact could not be read", key=key):
            return (await obstore.head_async(self._store, key))["size"]

    async def read(self, key: str, *, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from *start* up to *end*, part by part; raises ArtifactNotFound."""
        require_readable(key)
        if start >= end:
            return
        with _translated("an artifact could not be read", key=key):
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=_PIECE):
                yield bytes(chunk)

    def fetch(self, key: str, into: IO[bytes], *, limit: int) -> str:
        """Write what stands under the key into a file, part by part; return its SHA-256 digest.

        The key is an artifact's or an upload's. Raises ArtifactNotFound, and ArtifactTooLarge when
        there are more than *limit* bytes.
        """
        require_readable(key)
        digest, size = hashlib.sha256(), 0
        with _translated("an artifact could not be read", key=key):
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_READ):
                size += len(chunk)
                if size > limit:
                    raise ArtifactTooLarge(key, limit)
                digest.update(chunk)
                into.write(chunk)
        return digest.hexdigest()

    def owner(self) -> StoreOwner | None:
        """Return whose the store is; None: nobody has claimed it."""
        try:
            with _translated("the store's owner could not be read", key=OWNER_KEY):
                return decoded_owner(bytes(obstore.get(self._store, OWNER_KEY).bytes()))
        except ArtifactNotFound:
            return None

    def claim(self, owner: StoreOwner) -> StoreOwner:
        """Make it the owner's unless somebody was first; return whose it is now."""
        with _translated("the store's owner could not be written"):
            try:
                obstore.put(
                    self._store, OWNER_KEY, owner.encoded(), mode="create", use_multipart=False
                )
            except AlreadyExistsError:
                pass  # whoever was first is the owner
            else:
                if self._root is not None:
                    _sync(self._root, OWNER_KEY)
        return self.owner() or owner

    def list_task_folders(self) -> Iterator[TaskFolder]:
        """Yield every task folder once, with the time of its newest artifact."""
        with _translated("the artifacts could not be listed"):
            yield from self._folders.all()

    def list_keys(self, project: str, task_id: str) -> list[str]:
        """Return what stands in a task's folder, leftovers of broken writes included."""
        with _translated("the artifacts of a task could not be listed"):
            return self._folders.names(task_folder(project, task_id))

    def delete_keys(self, project: str, task_id: str, keys: list[str]) -> None:
        """Delete keys of a task, as list_keys names them; those that are gone are no error."""
        folder = task_folder(project, task_id)
        with _translated("an artifact could not be deleted"):
            for key in keys:
                if Path(key).parent.as_posix() != folder:
                    raise ArtifactStoreError(f"{key} is no artifact of task {task_id}")
                self._folders.delete(key)

    def list_uploads(self) -> Iterator[StoredUpload]:
        """Yield every upload once, with the time it was last brought."""
        with _translated("the uploads could not be listed"):
            yield from self._folders.uploads()

    def delete_upload(self, upload: StoredUpload) -> None:
        """Delete an upload; one that is gone is no error."""
        with _translated("an upload could not be deleted"):
            self._folders.delete(upload.key)

    def delete_task_folder(self, project: str, task_id: str) -> None:
        """Delete all that a task stored; a folder that is gone is no error."""
        with _translated("the artifacts of a task could not be deleted"):
            self._folders.delete_folder(task_folder(project, task_id))

    def _written(
        self, content: bytes | Path, key: str, sha256: str, size: int, *, media_type: str
    ) -> StoredArtifact:
        attributes = {
            "Content-Type": require("media type", media_type),
            "Cache-Control": _CACHING,
        }
        with _translated("an artifact could not be stored"):
            obstore.put(
                self._store,
                key,
                content,
                attributes=attributes if self._root is None else None,
                use_multipart=size > PART,
                chunk_size=PART,
                max_concurrency=_PARTS_AT_A_TIME,
            )
            if self._root is not None:
                # obstore writes beside and renames; it offers no fsync, so that is ours.
                _sync(self._root, key)
        return StoredArtifact(key, f"{self._public_url}/{key}", sha256, size)

    @cached_property
    def _store(self) -> ObjectStore:
        if self._root is not None:
            return LocalStore(self._root, mkdir=True)
        if urlsplit(self._url).scheme == "s3":
            return S3Store.from_url(
                self._url,
                config=self._s3.config,
                client_options=self._s3.client_options,
                retry_config=self._s3.retry_config,
            )
        return from_url(self._url)

    @cached_property
    def _folders(self) -> TaskFolders:
        if self._root is not None:
            return LocalTaskFolders(self._root)
        return ObjectTaskFolders(self._store)


def _local_root(url: str) -> Path | None:
    parts = urlsplit(url)
    if not parts.scheme:
        raise ArtifactStoreError(f"the artifacts' URL has no scheme: {url!r}")
    if parts.scheme != "file":
        return None
    root = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not root.is_absolute():
        raise ArtifactStoreError(f"the artifacts' URL is no absolute path: {url!r}")
    return root


def _measured(content: bytes | Path) -> tuple[str, int]:
    """Return the SHA-256 digest and the size of the bytes, or of the file's."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync(root: Path, key: str) -> None:
    """Force a written file, and the folders that name it, to the disk."""
    path = root / key
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return


@contextmanager
def _translated(what: str, *, key: str | None = None) -> Generator[None]:
    """Turn whatever the store's library raises into one sentence of ours."""
    try:
        yield
    except FileNotFoundError as error:
        if key is not None and "NoSuchBucket" not in str(error):
            raise ArtifactNotFound(key) from error
        raise ArtifactStoreError(f"{what}: {reason_of(error)}") from error
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise ArtifactStoreError(f"{what}: {reason_of(error)}") from error
