"""The sweeper: deletes what no task refers to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.folders import TaskFolder
from callsheet.artifacts.store import ArtifactStore

BATCH: Final = 100
_MOST_ERRORS: Final = 10


@dataclass(frozen=True)
class KnownTask:
    """What the ledger knows of a task, as far as the sweeper must know."""

    is_final: bool
    artifact_keys: frozenset[str] = frozenset()
    """The keys its result refers to."""


LookUp = Callable[[Sequence[str]], Awaitable[Mapping[str, KnownTask | None]]]
"""Answers, per task id, what the ledger knows; None for a task it does not know.

An id that is left out was not answered, and its folder stays.
"""


@dataclass
class SweepReport:
    """What one sweep saw and did."""

    folders_seen: int = 0
    folders_deleted: int = 0
    artifacts_deleted: int = 0
    """Only those whose folder stayed."""
    errors: list[str] = field(default_factory=list[str])
    """Why folders could not be swept; the first ten."""


async def sweep(
    store: ArtifactStore, *, look_up: LookUp, older_than: timedelta, now: datetime
) -> SweepReport:
    """Delete folders of unknown tasks, and in those of final tasks what their result left out.

    A folder whose newest artifact is younger than older_than is never touched: its attempt may be
    about to commit. Nor is that of a task that is not final. One folder that cannot be deleted does
    not keep the others; raises ArtifactStoreError only when the store cannot be listed.
    """
    report = SweepReport()
    folders = store.list_task_folders()
    while batch := await asyncio.to_thread(_next_batch, folders):
        report.folders_seen += len(batch)
        if old := [folder for folder in batch if now - folder.modify_time >= older_than]:
            known = await look_up([folder.task_id for folder in old])
            await asyncio.to_thread(_sweep_batch, store, old, known=known, report=report)
    return report


async def sweep_uploads(store: ArtifactStore, *, older_than: timedelta, now: datetime) -> int:
    """Delete uploads that nobody brought again for so long, and return how many there were.

    Raises ArtifactStoreError.
    """
    return await asyncio.to_thread(_sweep_uploads, store, older_than=older_than, now=now)


def _sweep_uploads(store: ArtifactStore, *, older_than: timedelta, now: datetime) -> int:
    deleted = 0
    for upload in store.list_uploads():
        if now - upload.modify_time >= older_than:
            store.delete_upload(upload)
            deleted += 1
    return deleted


def _next_batch(folders: Iterator[TaskFolder]) -> list[TaskFolder]:
    return list(islice(folders, BATCH))


def _sweep_batch(
    store: ArtifactStore,
    folders: Sequence[TaskFolder],
    *,
    known: Mapping[str, KnownTask | None],
    report: SweepReport,
) -> None:
    for folder in folders:
        if folder.task_id not in known:
            continue
        try:
            _sweep_folder(store, folder, task=known[folder.task_id], report=report)
        except ArtifactStoreError as error:
            if len(report.errors) < _MOST_ERRORS:
                report.errors.append(error.message)


def _sweep_folder(
    store: ArtifactStore, folder: TaskFolder, *, task: KnownTask | None, report: SweepReport
) -> None:
    if task is None:
        store.delete_task_folder(folder.project, folder.task_id)
        report.folders_deleted += 1
    elif task.is_final:
        keys = store.list_keys(folder.project, folder.task_id)
        left_out = [key for key in keys if key not in task.artifact_keys]
        store.delete_keys(folder.project, folder.task_id, left_out)
        report.artifacts_deleted += len(left_out)
