"""The artifact sweeper: deletes what was uploaded for nothing, where its own ledger's tasks are."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, cast

import structlog
from google.protobuf.message import DecodeError

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.folders import TaskFolder
from callsheet.artifacts.ownership import OWNER_KEY, StoreOwner
from callsheet.artifacts.references import artifacts_in, unpacked
from callsheet.artifacts.store import ArtifactStore
from callsheet.artifacts.sweep import BATCH, KnownTask, sweep, sweep_uploads
from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.model import Task
from callsheet.ledger.store import Store

PERIOD: Final = timedelta(minutes=10)
#: What is younger may belong to an attempt that is about to succeed.
OLDER_THAN: Final = timedelta(hours=1)
#: An upload that nobody brought again for so long is of no task that is still kept.
UPLOADS_FOR: Final = timedelta(days=30)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class ArtifactSweeper:
    """Deletes artifacts of tasks that are gone, and those that a final task does not refer to.

    Uploads go when they are old. A store that another ledger has claimed is left alone: there,
    every task would seem to be gone.
    """

    name = "artifact_sweeper"

    def __init__(
        self,
        store: Store,
        artifacts: ArtifactStore,
        *,
        cell: str,
        identity: Callable[[], Awaitable[str]],
        clock: Callable[[], datetime],
        uploads_for: timedelta = UPLOADS_FOR,
    ) -> None:
        """*uploads_for*: how long an upload is kept after it was last brought."""
        self._store = store
        self._artifacts = artifacts
        self._cell = cell
        self._identity = identity
        self._clock = clock
        self._uploads_for = uploads_for

    async def run_once(self) -> timedelta:
        """Sweep the whole store once, if it is ours."""
        try:
            if not await self._is_ours():
                return PERIOD
            report = await sweep(
                self._artifacts,
                look_up=self._look_up,
                older_than=OLDER_THAN,
                now=self._clock(),
            )
            uploads = await sweep_uploads(
                self._artifacts, older_than=self._uploads_for, now=self._clock()
            )
        except ArtifactStoreError as error:
            _log.warning("artifacts_not_swept", reason=error.message)
            return PERIOD
        if report.folders_deleted or report.artifacts_deleted or uploads or report.errors:
            _log.info(
                "artifacts_swept",
                folders_seen=report.folders_seen,
                folders_deleted=report.folders_deleted,
                artifacts_deleted=report.artifacts_deleted,
                uploads_deleted=uploads,
                errors=report.errors,
            )
        return PERIOD

    async def _is_ours(self) -> bool:
        """Whether this ledger's tasks are what the store is for; claims a store that is nobody's.

        Raises ArtifactStoreError.
        """
        mine = StoreOwner(self._cell, await self._identity())
        owner = await asyncio.to_thread(self._artifacts.owner)
        if owner is None:
            if not await self._may_claim():
                _log.error("artifacts_not_claimed", marker=OWNER_KEY, claim=mine.encoded().decode())
                return False
            owner = await asyncio.to_thread(self._artifacts.claim, mine)
        if owner != mine:
            _log.error(
                "artifacts_of_another_ledger",
                owner_cell=owner.cell,
                owner_ledger=owner.ledger,
                cell=mine.cell,
                ledger=mine.ledger,
            )
        return owner == mine

    async def _may_claim(self) -> bool:
        """Whether a store without an owner is empty, or some of what is in it is known here."""
        folders = await asyncio.to_thread(self._first_folders)
        known = await self._store.read([folder.task_id for folder in folders])
        return not folders or any(stored is not None for stored in known)

    def _first_folders(self) -> list[TaskFolder]:
        return list(islice(self._artifacts.list_task_folders(), BATCH))

    async def _look_up(self, task_ids: Sequence[str]) -> Mapping[str, KnownTask | None]:
        """Answer for each id; one is left out when what it refers to cannot be told."""
        known: dict[str, KnownTask | None] = {}
        found = await self._store.read(task_ids)
        for task_id, stored in zip(task_ids, found, strict=True):
            try:
                known[task_id] = None if stored is None else _known(decode_task(stored))
            except (UnknownVersion, DecodeError, KeyError, ValueError) as error:
                _log.error("task_unreadable", task_id=task_id, reason=repr(error))
        return known


def _known(task: Task) -> KnownTask:
    """Return what the sweeper must know. Raises ValueError for an output of an unknown type."""
    if not task.output:
        return KnownTask(task.is_final)
    keys = frozenset(artifact.key for artifact in artifacts_in(unpacked(task.output)))
    return KnownTask(task.is_final, keys)
