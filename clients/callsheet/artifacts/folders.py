"""Task folders of a store: what the sweeper lists and deletes."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import obstore
from obstore.store import ObjectStore

from callsheet.artifacts.keys import fits

if TYPE_CHECKING:
    from obstore import ObjectMeta

_LIST_CHUNK = 1000


class _Listing(Protocol):
    """obstore.list without its arrow overloads, whose types need a package that we do not have."""

    def list(
        self, store: ObjectStore, prefix: str, *, chunk_size: int
    ) -> Iterator[Sequence["ObjectMeta"]]: ...


_obstore = cast("_Listing", obstore)


@dataclass(frozen=True)
class TaskFolder:
    """All that one task stored."""

    project: str
    task_id: str
    modify_time: datetime
    """When its newest artifact was written."""


@dataclass(frozen=True)
class StoredUpload:
    """One file that a client brought, or what is left of one."""

    key: str
    modify_time: datetime


class TaskFolders(Protocol):
    """How the folders of one kind of store are listed and deleted."""

    def all(self) -> Iterator[TaskFolder]:
        """Yield every task folder once, in no particular order."""
        ...

    def uploads(self) -> Iterator[StoredUpload]:
        """Yield every upload once, in no particular order, leftovers of broken writes included."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the keys in one folder, leftovers of broken writes included."""
        ...

    def delete(self, key: str) -> None:
        """Delete one key; one that is gone is no error."""
        ...

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all in it; one that is gone is no error."""
        ...


class LocalTaskFolders:
    """Task folders in a local folder, read directly.

    Listing through obstore would hide what a killed process left half written, and the empty folder
    around it, for ever.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def all(self) -> Iterator[TaskFolder]:
        """Yield every task folder once, in no particular order."""
        for project in _subfolders(self._root / "projects", part="project"):
            for task in _subfolders(Path(project.path, "tasks"), part="task id"):
                if (modify_time := _newest(task)) is not None:
                    yield TaskFolder(project.name, task.name, modify_time)

    def uploads(self) -> Iterator[StoredUpload]:
        """Yield every upload once, in no particular order, leftovers of broken writes included."""
        for project in _subfolders(self._root / "projects", part="project"):
            folder = Path(project.path, "uploads")
            for path in folder.glob("*"):
                if (modify_time := _modified(path)) is not None:
                    yield StoredUpload(path.relative_to(self._root).as_posix(), modify_time)

    def names(self, folder: str) -> list[str]:
        """Return the keys in one folder, leftovers of broken writes included."""
        try:
            return [f"{folder}/{entry.name}" for entry in os.scandir(self._root / folder)]
        except FileNotFoundError:
            return []

    def delete(self, key: str) -> None:
        """Delete one key; one that is gone is no error."""
        (self._root / key).unlink(missing_ok=True)

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all in it; one that is gone is no error."""
        try:
            shutil.rmtree(self._root / folder)
        except FileNotFoundError:
            return


class ObjectTaskFolders:
    """Task folders in an object store, where a folder is a common beginning of keys."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def all(self) -> Iterator[TaskFolder]:
        """Yield every task folder once: keys are listed in order, so a task's stand together."""
        for (project, task_id), entries in groupby(self._entries(), key=lambda entry: entry[0]):
            yield TaskFolder(project, task_id, max(time for _, time in entries))

    def uploads(self) -> Iterator[StoredUpload]:
        """Yield every upload once."""
        for chunk in _obstore.list(self._store, "projects/", chunk_size=_LIST_CHUNK):
            for entry in chunk:
                match entry["path"].split("/"):
                    case ["projects", project, "uploads", _] if fits("project", project):
                        yield StoredUpload(entry["path"], entry["last_modified"])
                    case _:
                        continue  # of a task, or not written by us

    def names(self, folder: str) -> list[str]:
        """Return the keys in one folder."""
        chunks = _obstore.list(self._store, f"{folder}/", chunk_size=_LIST_CHUNK)
        return [entry["path"] for chunk in chunks for entry in chunk]

    def delete(self, key: str) -> None:
        """Delete one key; one that is gone is no error."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all in it; one that is gone is no error."""
        for key in self.names(folder):
            self.delete(key)

    def _entries(self) -> Iterator[tuple[tuple[str, str], datetime]]:
        for chunk in _obstore.list(self._store, "projects/", chunk_size=_LIST_CHUNK):
            for entry in chunk:
                match entry["path"].split("/"):
                    case ["projects", project, "tasks", task_id, _] if _is_ours(project, task_id):
                        yield (project, task_id), entry["last_modified"]
                    case _:
                        continue  # not written by us: none of our business


def _is_ours(project: str, task_id: str) -> bool:
    return fits("project", project) and fits("task id", task_id)


def _subfolders(folder: Path, *, part: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and fits(part, entry.name):
                    yield entry
    except FileNotFoundError:
        return


def _modified(path: Path) -> datetime | None:
    """Return when a file was last written; None when it is gone."""
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _newest(folder: os.DirEntry[str]) -> datetime | None:
    """Return the newest modification of a folder or of what is in it; None when it is gone."""
    try:
        newest = folder.stat(follow_symlinks=False).st_mtime
        with os.scandir(folder) as entries:
            for entry in entries:
                newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except FileNotFoundError:
        return None
    return datetime.fromtimestamp(newest, UTC)
