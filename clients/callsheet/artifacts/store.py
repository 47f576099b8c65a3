"""Where artifacts are kept: a local folder or an object store, behind one class."""

import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactStoreError, reason_of
from callsheet.artifacts.folders import LocalTaskFolders, ObjectTaskFolders, TaskFolder, TaskFolders
from callsheet.artifacts.keys import artifact_key, require, task_folder


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

    The URL is any that obstore knows (`file://` with an absolute path, `s3://`); nothing is touched
    before the first call. Every method raises ArtifactStoreError when the store refuses or fails.
    """

    def __init__(self, url: str, *, public_url: str | None = None) -> None:
        self._url = url
        self._public_url = (public_url or url).rstrip("/")
        self._root = _local_root(url)

    def put(
        self,
        content: bytes,
        *,
        project: str,
        task_id: str,
        attempt: int,
        media_type: str,
        suffix: str,
    ) -> StoredArtifact:
        """Store the bytes and return their name; all of them are on disk afterwards, or none.

        Putting the same bytes for the same attempt again changes nothing.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        key = artifact_key(project, task_id, attempt=attempt, sha256=sha256, suffix=suffix)
        with _translated("an artifact could not be stored"):
            if self._root is not None:
                # Temporary file and rename in obstore; it offers no fsync, so that is ours.
                obstore.put(self._store, key, content, use_multipart=False)
                _sync(self._root, key)
            else:
                attributes = {"Content-Type": require("media type", media_type)}
                obstore.put(self._store, key, content, attributes=attributes)
        return StoredArtifact(key, f"{self._public_url}/{key}", sha256, len(content))

    def get(self, key: str) -> bytes:
        """Return the bytes under the key; raises ArtifactNotFound when there are none."""
        require("key", key)
        with _translated("an artifact could not be read", key=key):
            return bytes(obstore.get(self._store, key).bytes())

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

    def delete_task_folder(self, project: str, task_id: str) -> None:
        """Delete all that a task stored; a folder that is gone is no error."""
        with _translated("the artifacts of a task could not be deleted"):
            self._folders.delete_folder(task_folder(project, task_id))

    @cached_property
    def _store(self) -> ObjectStore:
        if self._root is not None:
            return LocalStore(self._root, mkdir=True)
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
        if key is not None:
            raise ArtifactNotFound(key) from error
        raise ArtifactStoreError(f"{what}: {reason_of(error)}") from error
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise ArtifactStoreError(f"{what}: {reason_of(error)}") from error
